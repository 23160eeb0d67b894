"""A Slurm of one node on loopback, in a folder of its own: its key, its ports, its logs.

Debian's packages munge, slurmctld, slurmd and slurm-client have the programs; they run as root.
"""

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=60 State=UP
"""


def missing() -> str:
    "Why no Slurm can be started here; empty if one can."
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)}: not installed (Debian: munge slurmctld slurmd slurm-client)"
    return "" if os.getuid() == 0 else "slurmd starts jobs as root, and this is another user"


def free_ports(count: int) -> list[int]:
    "Ports on loopback that nobody listens to."
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for_idle(environment: dict[str, str]) -> None:
    "Until the node takes jobs."
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        command = ["sinfo", "--noheader", "--format=%T"]
        said = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        if said.strip() == "idle":
            return
        time.sleep(0.2)
    raise RuntimeError(f"the node is not idle but {said!r}")


def _without(hidden: Path | None) -> list[str]:
    "Words before a command for which a folder is empty."
    if hidden is None:
        return []
    covered = f'mount -t tmpfs none "{hidden}" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", covered, "sh"]


@contextmanager
def one_slurm(folder: Path, cpus: int = 2, hidden: Path | None = None) -> Iterator[dict[str, str]]:
    """Start the daemons in a folder, yield the variables that lead to them, and stop them.

    The node does not see what lies in the folder `hidden`.
    """
    ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
    conf = folder / "slurm.conf"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    conf.write_text(SETTINGS.format(folder=folder, host=platform.node(), cpus=cpus, **ports))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    munge = {"key": "key", "socket": "socket", "pid": "pid", "log": "log", "seed": "seed"}
    files = [
        f"--{key}{'' if key == 'socket' else '-file'}={folder}/munge.{name}"
        for key, name in munge.items()
    ]
    variables = {"SLURM_CONF": str(conf)}
    environment = os.environ | variables
    daemons = [
        ["munged", "--foreground", "--force", *files],
        ["slurmctld", "-D", "-f", str(conf)],
        [*_without(hidden), "slurmd", "-D", "-f", str(conf), "-N", platform.node()],
    ]
    running = []
    try:
        for command in daemons:
            with open(folder / f"{command[0]}.out", "w") as log:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(0.5)
        wait_for_idle(environment)
        yield variables
    finally:
        for daemon in reversed(running):
            daemon.terminate()
            daemon.wait(20)
