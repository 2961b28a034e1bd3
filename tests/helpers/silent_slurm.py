"""Stand-ins for Slurm's commands that run nothing: what they were asked, and when they are silent.

For what a real cluster (``slurm_cluster``) cannot be made to do at a chosen moment.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """\
#!/bin/sh
cd {state}
name=$(basename "$0")
echo "$name $*" >> calls
if [ -s silent ]; then
    left=$(($(cat silent) - 1))
    [ $left -gt 0 ] && echo $left > silent || rm silent
    echo "$name: error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
case "$name $*" in
"sbatch --test-only") cat > tested ;;
sbatch*)
    sent=$(ls job-* 2>/dev/null | wc -l)
    if [ -s refuses_after ] && [ "$sent" -ge "$(cat refuses_after)" ]; then
        echo "sbatch: error: Job violates accounting/QOS policy (job submit limit)" >&2
        exit 1
    fi
    number=$((100 + sent))
    cat "$1" > job-$number
    [ -s then_silent ] && mv then_silent silent
    echo "Submitted batch job $number" ;;
squeue*) cat queue 2>/dev/null ;;
"scontrol show config") cat config 2>/dev/null ;;
esac
exit 0
"""


@dataclass(frozen=True)
class SilentSlurm:
    """Programs in ``folder/bin``; their state is the files of ``folder``."""

    folder: Path

    @staticmethod
    def install(folder: Path) -> "SilentSlurm":
        """Write the programs."""
        (folder / "bin").mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "srun"):
            program = folder / "bin" / name
            program.write_text(_PROGRAM.format(state=folder))
            program.chmod(0o755)
        return SilentSlurm(folder)

    @property
    def path(self) -> str:
        """``PATH`` with the programs first."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def silent(self, calls: int) -> None:
        """Answer none of the next calls."""
        (self.folder / "silent").write_text(str(calls))

    def silent_after_submission(self, calls: int) -> None:
        """Answer none of some calls after the next submission."""
        (self.folder / "then_silent").write_text(str(calls))

    def refuse_after(self, submissions: int) -> None:
        """Refuse all submissions after some."""
        (self.folder / "refuses_after").write_text(str(submissions))

    def configure(self, text: str) -> None:
        """What ``scontrol show config`` prints."""
        (self.folder / "config").write_text(text)

    def queue(self, *lines: str) -> None:
        """What ``squeue`` prints: ``ID|STATE|DETAIL``."""
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def jobs(self) -> list[dict[str, str]]:
        """The options of every job that was submitted."""
        found = []
        for path in sorted(self.folder.glob("job-*")):
            lines = [x for x in path.read_text().splitlines() if x.startswith("#SBATCH --")]
            pairs = (line.removeprefix("#SBATCH --").partition("=") for line in lines)
            found.append({key: value for key, _, value in pairs})
        return json.loads(json.dumps(found))

    def calls(self) -> list[str]:
        """The commands that were called."""
        return (self.folder / "calls").read_text().splitlines()
