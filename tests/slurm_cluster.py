"""A real Slurm for the tests: Debian's slurm-wlm on loopback, on free ports, as two nodes of one core each."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
INSTALL = "apt-get install slurm-wlm munge"
START_SECONDS = 30

SETTINGS = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a requeued job waits as long as credentials live, two minutes unless told otherwise
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MpiDefault=none
ReturnToService=2
KillWait=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n1,n2 PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP
"""

SACCT = """#!/bin/sh
# The accounting of a real cluster needs a database; this answers from what the controller remembers.
echo "JobID|State|NodeList"
SLURM_CONF={folder}/slurm.conf squeue --array --noheader --states=all --format="%i|%T|%N"
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A cluster that waits for jobs.

    Attributes:
        folder: Of its files and logs.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to speak with this cluster and no other."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def run(self, *command: str) -> str:
        """Run a command of Slurm and give what it says."""
        answer = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, f"{' '.join(command)}: {answer.stdout}{answer.stderr}"
        return answer.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """State of each job and array task that the controller remembers, by its id."""
        said = self.run("squeue", "--array", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in said)

    def restarts(self, job: str) -> int:
        """How often a job was queued again."""
        said = self.run("scontrol", "show", "job", job)
        return int(said.split("Restarts=")[1].split()[0])


@contextmanager
def running_slurm() -> Iterator[SlurmCluster]:
    """Start controller and nodes in a folder of their own, stop them at the end; skip where Slurm is not installed."""
    missing = [program for program in PROGRAMS if _program(program) is None]
    if missing:
        pytest.skip(f"needs Slurm ({', '.join(missing)} missing): {INSTALL}")
    if os.geteuid() != 0:
        pytest.skip("a node of Slurm starts jobs as root only")
    with ExitStack() as stack:
        # not pytest's folder: the name of a socket may have 107 characters
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        cluster = SlurmCluster(folder)
        _write_settings(folder)
        _start(stack, folder, "munged", *_munge_arguments(folder))
        _wait("munge", lambda: (folder / "munge.socket").exists(), folder)
        _start(stack, folder, "slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            _start(stack, folder, "slurmd", "-D", "-c", "-N", node)
        _wait("two idle nodes", lambda: _idle_nodes(cluster) == 2, folder)
        try:
            yield cluster
        finally:
            subprocess.run(["scancel", "--user", getpass.getuser()], env=os.environ | cluster.environment, timeout=30)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and {"RUNNING", "COMPLETING"} & set(cluster.jobs().values()):
                time.sleep(0.2)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _write_settings(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "bin").mkdir()
    for node in ("n1", "n2"):
        (folder / f"spool-{node}").mkdir()
    names = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "folder": folder}
    with ExitStack() as stack:  # held together, so that they differ
        listeners = [stack.enter_context(socket.socket()) for _ in range(3)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        port, first, second = (listener.getsockname()[1] for listener in listeners)
    (folder / "slurm.conf").write_text(SETTINGS.format(**names, port=port, first=first, second=second))
    (folder / "bin" / "sacct").write_text(SACCT.format(folder=folder))
    (folder / "bin" / "sacct").chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)


def _munge_arguments(folder: Path) -> list[str]:
    files = {"key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
    return [
        "--foreground",
        "--force",  # the folder lies in a place that everybody may write to
        f"--socket={folder / 'munge.socket'}",
        *(f"--{option}={folder / name}" for option, name in files.items()),
    ]


def _start(stack: ExitStack, folder: Path, program: str, *words: str) -> None:
    """Start one server; it is stopped when the stack unwinds."""
    found = _program(program)
    assert found is not None
    with (folder / f"{program}.out").open("ab") as out:
        process = subprocess.Popen(
            [found, *words],
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_tests,
        )
    stack.callback(_stop, process)


def _end_with_the_tests() -> None:
    """Ask Linux for a signal when the tests are gone; killed ones would leave servers behind."""
    set_signal_of_parents_death = 1
    ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _idle_nodes(cluster: SlurmCluster) -> int:
    answer = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%t"],
        env=os.environ | cluster.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return answer.stdout.split().count("idle")


def _wait(what: str, is_there: object, folder: Path) -> None:
    assert callable(is_there)
    deadline = time.monotonic() + START_SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            logs = "\n".join(
                f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                for path in sorted([*folder.glob("*.out"), *folder.glob("*.log")])
            )
            raise RuntimeError(f"no {what} within {START_SECONDS} s:\n{logs}")
        time.sleep(0.1)
