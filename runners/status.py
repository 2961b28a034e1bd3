"""Show how a sweep stands: ``ablate status``."""

import sys
from pathlib import Path

# This checkout's package, and the losses that a user keeps in the current folder.
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path.cwd())]

from ablations.commands.status import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
