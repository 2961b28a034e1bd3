"""A real Slurm of two nodes with two fake GPUs each, all on this machine and in one folder.

It needs neither root nor systemd nor a database. Every process is a child of the test run and is
stopped by its id.
"""

import contextlib
import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
_PR_SET_PDEATHSIG = 1
NODES = ("127.0.0.1", "127.0.0.2")

_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
MinJobAge=86400
KillWait=5
SlurmdTimeout=0
MailProg=/bin/true
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/none
NodeName=127.0.0.1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=4 RealMemory=4000 \
Gres=gpu:2
NodeName=127.0.0.2 NodeAddr=127.0.0.2 NodeHostname={host} Port={ports[2]} CPUs=4 RealMemory=4000 \
Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""

# `sacct` answers only with a database behind it; the controller remembers enough for the tests.
_SACCT = """\
#!/bin/sh
ids=
while [ $# -gt 0 ]; do [ "$1" = -j ] && { ids="$ids,$2"; shift; }; shift; done
echo 'JobID|State|NodeList'
exec squeue -a -h -r -t all -o '%i|%T|%N' ${ids:+-j "${ids#,}"}
"""


def missing_programs() -> list[str]:
    """The parts of Slurm that are not installed here."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class SlurmCluster:
    """Starts and stops the cluster; ``environment`` points Slurm's commands at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        self._munged: subprocess.Popen[bytes] | None = None
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Write the configuration, start every daemon and wait until both nodes are idle."""
        for name in ("state", "spool", "bin", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        shim = self.folder / "bin/sacct"
        shim.write_text(_SACCT)
        shim.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        text = _CONF.format(host=host, user=getpass.getuser(), folder=self.folder, ports=_ports(3))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")
        self._start_munge()
        self._start("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_for(lambda: len(self.idle_nodes()) == len(NODES), 30)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"socket": "munge.sock", "key-file": "munge.key", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        flags = [f"--{flag}={self.folder / name}" for flag, name in files.items()]
        self._munged = self._spawn("munged", "-F", "--force", *flags)
        self.wait_for((self.folder / "munge.sock").exists, 10)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.out").open("ab") as out:
            return subprocess.Popen(
                command,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _start(self, name: str, *flags: str) -> None:
        self._daemons[name] = self._spawn(name.partition(" ")[0], *flags)

    def start_node(self, node: str) -> None:
        """Start the daemon of one node."""
        self._start(f"slurmd {node}", "-D", "-N", node)

    def lose_node(self, node: str) -> None:
        """Kill the node: its daemon and everything that it runs."""
        self._daemons.pop(f"slurmd {node}").kill()
        for process in self._processes_of(node):
            process.kill()
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def _processes_of(self, node: str) -> list["_Process"]:
        """The jobs' processes on a node, and Slurm's step daemons."""
        mine = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={self.folder / 'slurm.conf'}"}
        found = [process for process in _Process.all() if mine <= process.environment()]
        parents = {process.parent() for process in found}
        steps = [process for process in parents if "slurmstepd" in process.name()]
        return [*steps, *found]

    def return_node(self, node: str) -> None:
        """Start the node again."""
        self.start_node(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def stop_controller(self) -> None:
        """Stop the controller; running jobs continue."""
        _end(self._daemons.pop("slurmctld"))

    def start_controller(self) -> None:
        """Start the controller again, with the jobs it had."""
        self._start("slurmctld", "-D")
        self.wait_for(lambda: bool(self.nodes("%N")), 30)

    @contextlib.contextmanager
    def without(self, setting: str) -> Iterator[None]:
        """Remove a line from the configuration while the block runs."""
        text = (self.folder / "slurm.conf").read_text()
        assert f"{setting}\n" in text
        with self._configured(text.replace(f"{setting}\n", "")):
            yield

    @contextlib.contextmanager
    def with_line(self, setting: str) -> Iterator[None]:
        """Add a line to the configuration while the block runs."""
        with self._configured(f"{(self.folder / 'slurm.conf').read_text()}{setting}\n"):
            yield

    @contextlib.contextmanager
    def _configured(self, text: str) -> Iterator[None]:
        before = (self.folder / "slurm.conf").read_text()
        try:
            self._reconfigure(text)
            yield
        finally:
            self._reconfigure(before)

    def _reconfigure(self, text: str) -> None:
        self.stop_controller()
        (self.folder / "slurm.conf").write_text(text)
        self.start_controller()
        self.run("scontrol", "reconfigure")  # has the nodes tell the controller of themselves
        self.wait_for(lambda: len(self.idle_nodes()) == len(NODES), 30)

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        found = subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return found.stdout.strip()

    def nodes(self, what: str, *flags: str) -> list[str]:
        """A field of every node."""
        return self.run("sinfo", "-hN", *flags, "-o", what).split()

    def idle_nodes(self) -> set[str]:
        """The nodes that are up and idle."""
        return set(self.nodes("%N", "-t", "idle"))

    def jobs(self, what: str = "%i %T") -> list[str]:
        """A line for every job that waits or runs."""
        return self.run("squeue", "-h", "-r", "-o", what).splitlines()

    def clear(self) -> None:
        """Cancel all jobs and wait until both nodes are idle."""
        self.run("scancel", f"--user={getpass.getuser()}")
        self.wait_for(lambda: not self.jobs() and len(self.idle_nodes()) == len(NODES), 60)

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until ``condition`` holds.

        Raises:
            TimeoutError: it does not hold after ``seconds``; the message has the daemons' output.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tails = [
                    f"{path.name}:\n" + "\n".join(path.read_text().splitlines()[-10:])
                    for path in sorted(self.folder.glob("*.out"))
                ]
                raise TimeoutError("\n".join([f"waited {seconds} s", *self.jobs(), *tails]))
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel every job, then end the daemons by their ids."""
        try:
            if "slurmctld" in self._daemons:
                self.clear()
        finally:
            for name in sorted(self._daemons, reverse=True):  # nodes before their controller
                _end(self._daemons.pop(name))
            if self._munged is not None:
                _end(self._munged)


@dataclass(frozen=True)
class _Process:
    """A process in /proc; one that has ended has no name and no environment."""

    id: int

    @staticmethod
    def all() -> list["_Process"]:
        return [_Process(int(path.name)) for path in Path("/proc").glob("[0-9]*")]

    def _read(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.id}/{name}").read_text(errors="replace")
        except OSError:
            return ""

    def environment(self) -> set[str]:
        return set(self._read("environ").split("\0"))

    def name(self) -> str:
        return self._read("cmdline")

    def parent(self) -> "_Process":
        fields = self._read("stat").rpartition(")")[2].split()
        return _Process(int(fields[1]) if fields else 0)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.id, signal.SIGKILL)


def _end_with_parent() -> None:
    """In the child: a test run that is killed leaves no daemon behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
