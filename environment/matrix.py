"""Run the default tests in an environment for each cell of a table; write the compatibility page.

    python -m environment.matrix                    # every cell, one after the other
    python -m environment.matrix py310-torch24      # this one
    python -m environment.matrix --failed           # of all, only the tests that failed last time

The environments are made in ``$MATRIX_DIR`` (``~/.cache/loss-ablations/matrix`` without it) by the
steps of `make setup`, and kept. Results of cells that are not run again stay on the page.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from environment.cells import CELLS, OLDEST, Cell, lower_bounds
from environment.packages import dependencies

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "reports" / "compatibility.json"
PAGE = ROOT / "reports" / "compatibility.md"
SHOWN = ("torch", "torchvision", "mmcv", "mmdet", "mmengine", "numpy", "pandas", "opencv")
VERSIONS = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"].lower(): d.version for d in m.distributions()}))
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the cells; exit status 1 if a test failed or an environment could not be made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help="default: all of them")
    parser.add_argument(
        "--tests", default="", help="more arguments for pytest, such as tests/sweep"
    )
    parser.add_argument(
        "--failed", action="store_true", help="only the tests that failed last time"
    )
    parser.add_argument("--page", action="store_true", help="write the page again, run nothing")
    options = parser.parse_args(arguments)
    names = {cell.name: cell for cell in CELLS}
    if unknown := sorted(set(options.cells) - set(names)):
        print(f"no cell {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = [] if options.page else [names[name] for name in options.cells or names]
    for cell in chosen:
        print(f"== {cell.name}: Python {cell.python}, {cell.torch}, {cell.stack}", flush=True)
        before = results.get(cell.name) if options.failed else None
        results[cell.name] = again(cell, before) if before else run(cell, options.tests.split())
        print(f"== {cell.name}: {outcome(results[cell.name])}", flush=True)
        write(results)
    write(results)
    return int(any(not green(results[cell.name]) for cell in chosen))


def write(results: dict[str, Any]) -> None:
    """Write the results and the page, in the order of the table."""
    ordered = {cell.name: results[cell.name] for cell in CELLS if cell.name in results}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    PAGE.write_text(page(ordered))


def run(cell: Cell, tests: list[str]) -> dict[str, Any]:
    """Make the cell's environment and run the tests in it; what happened, for the page."""
    result: dict[str, Any] = {"date": datetime.date.today().isoformat(), "machine": machine()}
    python = find_python(cell.python)
    if python is None:
        return result | {"problem": f"Python {cell.python} is not on this machine"}
    folder = home() / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    constraints = folder / "held.txt"
    constraints.write_text("\n".join(held(cell)) + "\n")
    started = time.monotonic()
    setup = ["make", "setup", f"VENV={folder / 'venv'}", f"PYTHON={python}", f"TORCH={cell.torch}"]
    setup += [f"STACK={cell.stack}", f"CONSTRAINTS={constraints}"]
    if subprocess.run(setup, cwd=ROOT, check=False).returncode:
        return result | {"problem": "the set-up failed"}
    minutes = round((time.monotonic() - started) / 60, 1)
    result |= {"setup_minutes": minutes} if minutes else {}  # an environment that was there
    result["versions"] = versions(folder / "venv" / "bin" / "python")
    return again(cell, result | tested(folder, tests))


def again(cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
    """Run what failed once more, one test at a time; what passes now is named on the page."""
    if not result.get("failed"):
        return result
    second = tested(home() / cell.name, ["-n", "0", *result["failed"]], "second")
    still = second.get("failed", result["failed"])
    passed = [test for test in result["failed"] if test not in still]
    return result | {
        "passed": result["passed"] + len(passed),
        "failed": still,
        "second": [*result.get("second", []), *passed],
    }


def held(cell: Cell) -> list[str]:
    """The versions that a cell is held to, as lines of a constraints file."""
    if cell.packages != OLDEST:
        return list(cell.packages)
    return [*lower_bounds(dependencies()), "opencv-python==4.9.0.80"]


def tested(folder: Path, tests: list[str], name: str = "tests") -> dict[str, Any]:
    """Run pytest with the environment in ``folder``: counts, and the names of what failed.

    Its output is in the files ``name``.log and ``name``.xml there.
    """
    report = folder / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [folder / "venv/bin/python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    command += ["-p", "no:cacheprovider"]
    started = time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        arguments = [*map(str, command), f"--junitxml={report}", *tests]
        code = subprocess.run(
            arguments, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    minutes = round((time.monotonic() - started) / 60, 1)
    if not report.exists():
        return {"problem": f"pytest ended with status {code} and no report"}
    return {"tests": " ".join(tests), "test_minutes": minutes, **counted(report)}


def counted(report: Path) -> dict[str, Any]:
    """Passed, skipped and failed in a JUnit report; an error counts as a failure."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    kinds = [{child.tag for child in case} for case in cases]
    bad = [
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for case, kind in zip(cases, kinds, strict=True)
        if kind & {"failure", "error"}
    ]
    skipped = sum("skipped" in kind for kind in kinds)
    return {"passed": len(cases) - len(bad) - skipped, "skipped": skipped, "failed": bad}


def find_python(version: str) -> str | None:
    """A Python of this version: on the path, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))
    for python in filter(None, candidates):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return python
    return None


def home() -> Path:
    """Where the environments are kept."""
    chosen = os.environ.get("MATRIX_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "loss-ablations" / "matrix"


def versions(python: Path) -> dict[str, str]:
    """What the environment has of the packages that the page shows, Python first."""
    done = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    code = "import platform; print(platform.python_version())"
    own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    shown = {"python": own.stdout.strip()}
    for name in SHOWN:
        names = (name, f"onedl-{name.replace('mmdet', 'mmdetection')}", f"{name}-python")
        if each := next(
            (each for each in (*names, f"{name}-python-headless") if each in found), ""
        ):
            shown[each] = found[each]
    return shown


def machine() -> str:
    """The machine in words."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def green(result: dict[str, Any]) -> bool:
    """Whether the cell's tests all passed."""
    return "problem" not in result and not result["failed"]


def outcome(result: dict[str, Any]) -> str:
    """One line on a cell."""
    if "problem" in result:
        return str(result["problem"])
    parts = f"{result['passed']} passed, {result['skipped']} skipped"
    if result.get("second"):
        parts += f", {len(result['second'])} of them only at a second run"
    return parts if green(result) else f"{parts}, **{len(result['failed'])} failed**"


def page(results: dict[str, Any]) -> str:
    """The compatibility page."""
    lines = [
        "# Compatibility",
        "",
        "The default tests in an environment for each row, made by `make matrix` (one cell: `make",
        'matrix CELLS="py310-torch24"`). The cells are in `environment/cells.py`.',
        "",
        "| cell | | Python | torch | packages | set-up | tests | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = {cell.name: cell for cell in CELLS}
    for name, result in results.items():
        has = result.get("versions", {})
        packages = ", ".join(
            f"{key} {value}" for key, value in has.items() if key not in ("python", "torch")
        )
        setup = f"{result['setup_minutes']} min" if "setup_minutes" in result else ""
        tests = outcome(result)
        if result.get("tests"):
            tests += f" (only `{result['tests']}`)"
        if "test_minutes" in result:
            tests += f" in {result['test_minutes']} min"
        mark = "passes" if green(result) else "**does not pass**"
        python = has.get("python", cells[name].python)
        torch = has.get("torch", cells[name].torch)
        lines.append(
            f"| `{name}`: {cells[name].note} | {mark} | {python} | {torch} | {packages} | {setup} "
            f"| {tests} | {result['date']} |"
        )
    if results:
        lines += ["", f"Machine: {', '.join(sorted({r['machine'] for r in results.values()}))}."]
    for name, result in results.items():
        if result.get("failed"):
            lines += ["", f"## What failed in `{name}`", ""]
            lines += [f"- `{test}`" for test in result["failed"]]
        if result.get("second"):
            lines += ["", f"## What passed in `{name}` only when it was run again", ""]
            lines += [f"- `{test}`" for test in result["second"]]
    missing = [name for name in cells if name not in results]
    if missing:
        lines += ["", f"Not run yet: {', '.join(f'`{name}`' for name in missing)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
