"""pip for another version of Python: ``python pip_for.py 3.12 download ...``.

pip's ``--python-version`` chooses wheels for that version, but reads requirements such as
``tomli; python_version < "3.11"`` by the Python that runs pip. Here they are read by the other one.
"""

import sys
from typing import Any

from pip._internal.cli.main import main
from pip._vendor.packaging import markers

if __name__ == "__main__":
    version, command, *arguments = sys.argv[1:]
    own = markers.default_environment

    def other() -> Any:
        return {**own(), "python_version": version, "python_full_version": f"{version}.0"}

    markers.default_environment = other
    sys.exit(main([command, "--python-version", version, *arguments]))
