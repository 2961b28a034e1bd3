"""Collect what a machine without a network lacks beyond torch, as one file.

    python -m environment.bundle --python 3.12 --have have.txt

The archive holds the project and, in its folder ``bundle``, the wheels that pip chooses for that
Python and platform, mmcv's source distribution, and ``bundle.json``, which says what they are for.
torch and torchvision, and what ``have.txt`` lists, are left out: the machine has them.
``environment.offline`` takes it from there.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from environment.mmcv import fetch
from environment.packages import STACKS, dependencies
from environment.python import BUILD, NEWEST, OLDEST
from environment.running import StepError, logged, say

ROOT = Path(__file__).parents[1]
PROJECT = "loss-ablations"
PLATFORM = re.compile(r"manylinux_2_(\d+)_(x86_64|aarch64)")
BY_TORCH = ("torch", "torchvision")
# mmengine asks for opencv-python, which needs libGL; the headless one has the same module.
REPLACED = "opencv-python"
ADDED = ("opencv-python-headless", *(each for each in BUILD if each != "pip"))
XZ = ("xz", "-T0", "--stdout")
LEFT_OUT = ":!reports/published"  # of the project: a tenth of the bundle, and nothing reads it


def main(arguments: list[str] | None = None) -> int:
    """Write the archive; exit status 2 for a Python, platform or file that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=running(), metavar="3.N")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64", metavar="manylinux_2_N_ARCH")
    parser.add_argument("--have", type=Path, help="`pip list --format=freeze` of the machine")
    parser.add_argument("--out", type=Path, default=Path("build"), help="a folder")
    options = parser.parse_args(arguments)
    try:
        have = listed(options.have) if options.have else {}
        if wrong := refusal(options.python, options.platform):
            print(wrong, file=sys.stderr)
            return 2
        make(options.python, options.platform, have, options.out)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def running() -> str:
    """The version of this Python, such as ``3.12``."""
    return "{}.{}".format(*sys.version_info)


def refusal(python: str, platform: str) -> str | None:
    """What is wrong with the Python or the platform; ``None`` if nothing is."""
    allowed = [f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    if python not in allowed:
        return f"no bundle for Python {python!r}; there are {', '.join(allowed)}"
    if not PLATFORM.fullmatch(platform):
        return f"no bundle for platform {platform!r}; one is manylinux_2_28_x86_64 (glibc 2.28)"
    return None


def listed(have: Path) -> dict[str, str]:
    """The ``name==version`` lines of a file; builds' own suffixes such as ``+cu128`` are cut.

    What compiles mmcv is bundled in any case, since it must be of certain releases.
    """
    found = re.findall(r"^([\w.-]+)==([\w.]+)", have.read_text(), re.M)
    bundled = {re.split("[<>=]", each)[0] for each in ADDED}
    return {normal(name): version for name, version in found if normal(name) not in bundled}


def normal(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make(python: str, platform: str, have: dict[str, str], out: Path) -> Path:
    """The archive for one Python and platform, without what the machine has."""
    name = f"{PROJECT}-py{python.replace('.', '')}-{platform}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        left_out = download(python, platform, have, folder, out / f"{name}.log")
        wheels = sorted(path.name for path in folder.glob("*.whl"))
        (source,) = folder.glob("*.tar.gz")
        about = {"python": python, "platform": platform, "commit": commit(), "have": left_out}
        text = json.dumps({**about, "mmcv": source.name, "wheels": wheels}, indent=1)
        (folder / "bundle.json").write_text(text + "\n")
        archive = packed(folder, out / f"{name}.tar.xz")
    megabytes = archive.stat().st_size / 1e6
    say(f"{archive}: {len(wheels)} wheels, mmcv and the project in {megabytes:.0f} MB")
    say(f"there: tar xf {archive.name} && cd {PROJECT} && make offline-setup PYTHON=...")
    return archive


def download(
    python: str, platform: str, have: dict[str, str], folder: Path, log: Path
) -> dict[str, str]:
    """Fill ``folder`` with the wheels that pip would choose there; what of ``have`` it left out."""
    say(f"collecting wheels for Python {python} on {platform}")
    needed = [line for line in dependencies() if not line.startswith((*BY_TORCH, "mmcv"))]
    held = folder.with_name("held.txt")
    held.write_text("".join(f"{name}=={version}\n" for name, version in have.items()))
    pip = [sys.executable, Path(__file__).with_name("pip_for.py"), python, "download"]
    pip += ["--only-binary", ":all:", "--constraint", held, "--dest", folder]
    pip += [part for each in platforms(platform) for part in ("--platform", each)]
    logged([*pip, "--progress-bar", "off", *needed, *ADDED], log, lambda line: None)
    left_out = {}
    for wheel in list(folder.glob("*.whl")):
        name = normal(wheel.name.split("-")[0])
        if name in {REPLACED, *BY_TORCH, *have}:
            wheel.unlink()
            left_out |= {name: have[name]} if name in have else {}
    fetch(STACKS["openmmlab"]["mmcv"], folder, log)
    return left_out


def platforms(platform: str) -> list[str]:
    """The tags of wheels that run on a platform, its own glibc first."""
    found = PLATFORM.fullmatch(platform)
    assert found is not None
    glibc, machine = int(found[1]), found[2]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1)]
    return [*tags, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"linux_{machine}"]


def commit() -> str:
    """The commit of this checkout, which the bundle holds."""
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"a bundle is made from a git checkout, and {ROOT} is none")
    return done.stdout.strip()


def packed(folder: Path, archive: Path) -> Path:
    """The project's files and ``folder`` in one archive.

    The wheels are stored in it unpacked-sized, since xz packs what zip left a third smaller.
    """
    say("packing on all processors; some minutes")
    for wheel in folder.glob("*.whl"):
        store(wheel)
    archive.parent.mkdir(parents=True, exist_ok=True)
    plain = archive.with_suffix("")
    command = ["git", "archive", f"--prefix={PROJECT}/", "--output", plain.resolve()]
    subprocess.run([*command, "HEAD", ".", LEFT_OUT], cwd=ROOT, check=True)
    with tarfile.open(plain, "a") as tar:
        tar.add(folder, f"{PROJECT}/bundle")
    partial = archive.with_suffix(".partial")
    with partial.open("wb") as out:
        status = subprocess.run([*XZ, plain], stdout=out, check=False).returncode
    plain.unlink()
    if status:
        raise StepError(f"{' '.join(XZ)} ended with status {status}")
    return partial.replace(archive)


def store(wheel: Path) -> None:
    """Write the wheel again without compression. Its files, and so its RECORD, stay as they are."""
    stored = wheel.with_suffix(".stored")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(stored, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            item.compress_type = zipfile.ZIP_STORED
            new.writestr(item, data)
    shutil.move(stored, wheel)


if __name__ == "__main__":
    sys.exit(main())
