"""Write the report of one or several sweeps: ``ablate report``."""

import sys
from pathlib import Path

# Import this checkout's package, and the user's own losses from the current folder.
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path.cwd())]

from ablations.commands.report import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
