"""``ablate COMMAND ...``: the console script, with the same code as the scripts in ``runners/``."""

import importlib
import sys
from pathlib import Path

COMMANDS = {
    "sweep": "train a detector over a grid of losses and write the report",
    "report": "write the report of one or several sweeps",
    "status": "show the state of a sweep",
    "trial": "run one planned trial in the foreground",
}


def main() -> int:
    """Run the command that the first argument names; returns its exit status."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: ablate COMMAND ...\n")
        print("\n".join(f"  {command:8}{text}" for command, text in COMMANDS.items()))
        print("\nablate COMMAND --help lists the flags of a command.")
        return 0
    if name not in COMMANDS:
        print(f"ablate: error: no command {name!r}; valid: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(Path.cwd()))  # for the user's own losses
    command = importlib.import_module(f"ablations.commands.{name}")
    sys.argv[:2] = [f"ablate {name}"]
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
