"""mmcv's ``setup.py`` in the current folder, with torch's headers compiled ahead of its files.

mmcv asks for C++17. From 2.14 on torch's headers refuse that, so it is raised to what they ask for.

Each of the 77 files begins with the header ``pytorch_cpp_helper.hpp``, which includes all of
torch's: four fifths of the time. GCC takes ``pytorch_cpp_helper.hpp.gch`` instead where it finds
one that was made with the same options; the object files are the same to the byte. Other compilers,
and files that cannot use it, read the header as before.
"""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADER = Path("mmcv/ops/csrc/common/pytorch_cpp_helper.hpp")


def compile_header(build_folder: str) -> None:
    """Compile the header with the options of ``build.ninja``, unless that was done or fails."""
    done = HEADER.with_name(HEADER.name + ".gch")
    rules = (Path(build_folder) / "build.ninja").read_text()
    found = dict(re.findall(r"^(cxx|cflags|post_cflags) = (.*)$", rules, re.M))
    if done.exists() or not HEADER.exists() or set(found) != {"cxx", "cflags", "post_cflags"}:
        return
    options = [word for word in shlex.split(found["cflags"]) if word != "-c"]
    partial = done.with_suffix(".partial")
    command = [*shlex.split(found["cxx"]), *options, "-x", "c++-header", HEADER, "-o", partial]
    print("compiling torch's headers", flush=True)
    if subprocess.run([*command, *shlex.split(found["post_cflags"])], check=False).returncode == 0:
        partial.rename(done)


def raise_standard(build_folder: str, torchs_header: Path) -> None:
    """Have ``build.ninja`` ask for the C++ standard that torch's header ``ATen.h`` requires."""
    required = re.search(r"#error C\+\+(\d+)", torchs_header.read_text())
    if required:
        rules = Path(build_folder) / "build.ninja"
        rules.write_text(
            re.sub(
                r"-std=c\+\+(\d+)",
                lambda found: f"-std=c++{max(found[1], required[1])}",
                rules.read_text(),
            )
        )


def before(first: Callable[[str], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with ``first`` called on its first argument before it."""

    def both(build_folder: str, *arguments: Any, **options: Any) -> Any:
        first(build_folder)
        return function(build_folder, *arguments, **options)

    return both


if __name__ == "__main__":
    import torch
    from torch.utils import cpp_extension

    def prepare(build_folder: str) -> None:
        aten = Path(torch.__file__).with_name("include") / "ATen" / "ATen.h"
        raise_standard(build_folder, aten)
        compile_header(build_folder)

    # Private: without it only slower, but not with torch 2.14 and later.
    if hasattr(cpp_extension, "_run_ninja_build"):
        cpp_extension._run_ninja_build = before(prepare, cpp_extension._run_ninja_build)
    sys.argv[0] = "setup.py"
    sys.path[0] = str(Path.cwd())
    runpy.run_path("setup.py", run_name="__main__")
