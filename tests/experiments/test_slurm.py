"""A Slurm of one node, started by the test: a grid as one array, a job that is killed, one that is
queued again, what Slurm refuses, and training by two tasks."""

import json
import os
import signal
import socket
import subprocess
import sys

import one_slurm
import pytest
from small_grid import COUNTED, MEASURED, leases, small, wait_until, write
from small_runs import few_images, write_table

from diml_nb.experiments import grid, jobs
from diml_nb.experiments.cluster import Resources

__all__ = ["small"]  # a fixture
LITTLE = Resources(minutes=9, memory_gb=0.2)
pytestmark = pytest.mark.skipif(bool(one_slurm.missing()), reason=one_slurm.missing() or "there")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    "The variables of a Slurm whose node has four cores and does not see the folder HIDDEN."
    hidden = tmp_path_factory.mktemp("hidden")
    with one_slurm.one_slurm(tmp_path_factory.mktemp("slurm"), cpus=4, hidden=hidden) as variables:
        yield variables | {"HIDDEN": str(hidden)}


@pytest.fixture
def on_slurm(slurm, small, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    return small


def states(folder=None):
    return grid.status("full", out=folder).state.tolist()


def test_an_array_of_which_one_is_killed_and_one_is_queued_again(on_slurm, monkeypatch, capsys):
    """SIGKILL to one, the warning before the end of its time to another, and one that Slurm itself
    puts back as for a job of higher priority: the report is right meanwhile and after, and no row
    is computed twice."""
    monkeypatch.setattr(grid, "GRIDS", {"full": {"01_whole": dict(seed=range(4))}})
    computed = on_slurm / "computed"
    write(on_slurm, "01_whole", COUNTED.replace("COMPUTED", str(computed)), pause=4)
    runs = jobs.run_grid("full", on="slurm", wait=False, resources=LITTLE, jobs=3)
    assert len(runs) == 4
    assert "Slurm has 4 runs as job" in capsys.readouterr().out
    assert set(states()) <= {"queued", "started", "running"}
    wait_until(lambda: computed.exists() and len({x[0] for x in open(computed)}) == 3)
    meanwhile = grid.status("full")
    assert meanwhile.state.tolist() == ["running"] * 3 + ["queued"]
    assert meanwhile.host.tolist() == [socket.gethostname()] * 3 + [""]

    array = next((on_slurm / "data/runs/full").glob("*.job.json")).name.partition(".")[0]
    os.kill(leases(on_slurm)["01_whole.full.0"]["process"], signal.SIGKILL)
    subprocess.run(["scancel", "--signal=USR2", f"{array}_1"], check=True)
    subprocess.run(["scontrol", "requeue", f"{array}_2"], check=True)
    wait_until(lambda: states()[:3] == ["interrupted", "queued", "queued"])
    kept = grid.status("full").rows.tolist()[:3]
    assert min(kept) >= 1
    for job in (f"{array}_1", f"{array}_2"):  # Slurm gives each two minutes of rest
        wait_until(lambda: job_waits(job))
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], check=True)
    wait_until(lambda: states() == ["interrupted"] + [MEASURED] * 3)

    again = jobs.run_grid("full", on="slurm", resume=True, resources=LITTLE)
    assert [run.parameters for run in again] == [dict(seed=0)]
    assert states() == [MEASURED] * 4
    expected = sorted(f"{seed} {row}" for seed in range(4) for row in range(3))
    assert sorted(computed.read_text().splitlines()) == expected


def job_waits(job):
    command = ["squeue", "--noheader", "--array", "--format=%i %T"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    return f"{job} PENDING" in said


def test_a_run_that_fails_is_named_when_it_was_waited_for(on_slurm, monkeypatch):
    monkeypatch.setattr(grid, "GRIDS", {"full": {}})
    write(on_slurm, "01_whole", "1 / 0" + COUNTED)
    with pytest.raises(RuntimeError, match="1 of 1 runs failed:\n01_whole.full failed"):
        jobs.run_grid("full", on="slurm", resources=LITTLE)
    assert states() == ["failed"]


@pytest.mark.parametrize(
    "changes,message",
    (
        (dict(partition="night"), "invalid partition specified: night; it has short"),
        (dict(gpus=3), "Slurm refuses the job: .*(gres|generic resource|configuration)"),
        (dict(memory_gb=5000.0), "Slurm refuses the job: Memory specification"),
    ),
    ids=str,
)
def test_what_slurm_refuses_is_one_sentence(on_slurm, capfd, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        jobs.run_grid("full", on="slurm", resources=LITTLE._replace(**changes))
    assert "\n" not in str(error.value)
    assert "sbatch" not in capfd.readouterr().err
    assert set(states()) == {"waiting"}


def test_a_folder_that_the_node_does_not_see(on_slurm):
    out = os.environ["HIDDEN"]
    with pytest.raises(ValueError, match=f"{out}: the nodes of the cluster do not see this folder"):
        jobs.run_grid("full", on="slurm", out=out, resources=LITTLE)


def test_a_run_that_never_began_is_lost(on_slurm, monkeypatch):
    "As where no node was idle when the folder was asked for: the report says it."
    monkeypatch.setattr(jobs, "require_slurm", lambda *_: None)
    monkeypatch.setattr(grid, "GRIDS", {"full": {}})
    out = os.environ["HIDDEN"]
    with pytest.raises(RuntimeError, match="01_whole.full was not finished"):
        jobs.run_grid("full", on="slurm", out=out, resources=LITTLE)
    assert states(out) == ["lost"]


def test_two_tasks_train_one_network_and_share_the_queries(slurm, tmp_path):
    """`srun` starts two launchers, as on two machines, with the words of one process; what they
    measure is what one process measures."""
    table = write_table(tmp_path, ("test", few_images("test")))
    run = tmp_path / "run"
    settings = ["--epochs", "1", "--batch-size", "8", "--set", "validation=0.34"]
    launcher = ["srun", "--ntasks=2", "--mem=900M"]
    two = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv_id=1"]
    two += ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{one_slurm.free_ports(1)[0]}"]

    def diml(before, launch, *words):
        command = [*before, sys.executable, *launch, "-m", "diml_nb", *map(str, words)]
        environment = os.environ | slurm | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    said = diml(launcher, two, "train", "--dataset", table, *settings, "--out", run)
    assert said.count("model.safetensors") == 1
    found = []
    for before, launch in ((launcher, two), ([], [])):
        diml(before, launch, "evaluate", run, "--top-k", "10")
        rows = json.loads((run / "test.json").read_text())["rows"]
        found.append([(row["config"], row["result"]) for row in rows])
        (run / "test.json").unlink()
    assert found[0] == found[1]
