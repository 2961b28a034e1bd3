"""Run one planned trial in the foreground: ``ablate trial``."""

import sys
from pathlib import Path

# Import this checkout's package, and the user's own losses from the current folder.
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path.cwd())]

from ablations.commands.trial import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
