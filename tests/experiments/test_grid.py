"""A grid of runs by papermill, in a repository of two small notebooks: all run, one fails, one is
killed, finished ones are passed over."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from small_grid import COMPUTE, COUNTED, MEASURED, THREE, leases, small, wait_until, write

from diml_nb.experiments import grid, jobs, report
from diml_nb.experiments.merge import merge_results
from diml_nb.experiments.runner import find_records
from diml_nb.records.record import load_record

__all__ = ["small"]  # a fixture
RESULTS = "data/runs/full/results"


def records(folder):
    return {path: path.read_text() for path in (folder / RESULTS / "01_whole").glob("*.json")}


def test_every_run_has_its_record_and_is_passed_over(small):
    done = jobs.run_grid("full", jobs=2)
    assert done == [
        ("01_whole", dict(dataset=d, seed=s)) for s in (0, 1) for d in ("emoji", "emoji_vendors")
    ]
    before = records(small)
    assert grid.status("full").state.tolist() == [MEASURED] * 4
    assert len(before) == 4
    assert jobs.run_grid("full", resume=True) == []
    assert records(small) == before
    assert jobs.run_grid("full", dataset="emoji_vendors", seed=1) == [
        ("01_whole", dict(dataset="emoji_vendors", seed=1))
    ]  # without `resume` it is opened; its rows are found
    assert records(small) == before
    kept = find_records("01_whole", "full", dataset="emoji", results=small / RESULTS)
    (table,) = report.pooled_tables(kept[1:])
    assert table.value.tolist() == ["100.0 (0.0 to 100.0)"] * 3


def test_other_code_is_run_again(small):
    "Rows of other code are not continued, and a finished record of other code is not passed over."
    this = dict(dataset="emoji", seed=1)
    jobs.run_grid("full", **this)
    (before,) = records(small)
    write(small, "01_whole", COMPUTE.replace("float(seed)", "float(seed) / 2"))
    assert jobs.run_grid("full", resume=True, **this) == [("01_whole", this)]
    (after,) = records(small)
    assert after == before  # the same name
    assert [row["result"]["value"][0] for row in load_record(after).rows] == [0.5] * 3
    assert jobs.run_grid("full", resume=True, **this) == []


def test_publishing_is_an_act_of_its_own(small):
    """What was measured becomes a committed record by `publish`; the next version of it makes it
    stale."""
    jobs.run_grid("full", dataset="emoji", seed=0)
    assert not (small / "data" / "results").exists()
    with pytest.raises(ValueError, match="no commit holds"):
        report.publish(["01_whole"], "full")
    (published,) = report.publish(["01_whole"], "full", dirty=True)
    assert published.parent == small / "data" / "results" / "01_whole"
    assert grid.status("full", dataset="emoji", seed=0).state.item().startswith("unverified since")
    write(small, "01_whole", COMPUTE.replace("version=1", "version=2"))
    assert grid.status("full", dataset="emoji", seed=0).state.item() == "stale"


def test_two_runs_are_compared(small):
    jobs.run_grid("full", dataset="emoji", seed=0)
    (record,) = find_records("01_whole", "full", results=small / RESULTS)
    assert report.compare_with_committed(record) == "no committed record to compare with"
    report.publish(["01_whole"], "full", dirty=True)
    assert report.compare_with_committed(record).startswith(
        "equal to the last digit to the committed record"
    )
    write(small, "01_whole", COMPUTE.replace("float(seed)", "0.01"))
    jobs.run_grid("full", dataset="emoji", seed=0)
    (record,) = find_records("01_whole", "full", results=small / RESULTS)
    said = report.compare_with_committed(record)
    assert "3 fields DIFFER" in said
    assert 'row {"i": 0}, value' in said


def test_one_that_fails_stops_nobody(small, monkeypatch):
    monkeypatch.setattr(grid, "GRIDS", THREE)
    write(small, "02_broken", "1 / 0" + COMPUTE)
    with pytest.raises(RuntimeError, match="1 of 4 runs failed:\n02_broken.full failed") as error:
        jobs.run_grid("full", ["02_broken", "01_whole"], jobs=2)
    assert str(small / "data" / "runs" / "full" / "02_broken.full.ipynb") in str(error.value)
    assert ".log" in str(error.value)
    assert grid.status("full").state.value_counts().to_dict() == {MEASURED: 3, "failed": 1}


def test_killed_it_goes_on(small, monkeypatch):
    """SIGKILL to all processes while two runs are at work; finished rows are kept to the
    microsecond they were made in."""
    monkeypatch.setattr(grid, "GRIDS", THREE)
    write(small, "01_whole", pause=1.5)
    command = [
        sys.executable,
        "-c",
        "from diml_nb.experiments import grid, jobs\n"
        f"grid.GRIDS = {THREE}\njobs.run_grid('full', jobs=2)",
    ]
    process = subprocess.Popen(
        command,
        cwd=small,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120

    def partial():
        return sorted((small / RESULTS / "runs" / "01_whole").glob("*.json"))

    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not any(load_record(path).rows for path in partial())
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: load_record(path).rows for path in partial()}
    states = grid.status("full").state.tolist()
    assert any(kept.values())
    assert "interrupted" in states
    assert "waiting" in states
    assert not records(small)
    assert len(jobs.run_grid("full", jobs=2, resume=True)) == 3
    assert grid.status("full").state.tolist() == [MEASURED] * 3
    for path, rows in kept.items():
        assert load_record(path).rows[: len(rows)] == rows


def test_a_value_reaches_the_notebook_or_is_refused(small):
    "An option without effect would be worse than none."
    assert jobs.run_grid("full", ["01_whole"], dataset="emoji", seed=7) == [
        ("01_whole", dict(dataset="emoji", seed=7))
    ]
    (record,) = find_records("01_whole", "full", results=small / RESULTS)
    assert record.config["seed"] == 7
    for wrong, message in (
        (
            dict(colour="red"),
            "01_whole has no parameter colour; it has preset, dataset, seed, pause",
        ),
        (dict(dataset="/no/such/set"), "unknown data set"),
        (dict(seed="one"), "parameter seed"),
    ):
        with pytest.raises(ValueError, match=message):
            jobs.run_grid("full", ["01_whole"], **wrong)


@contextmanager
def command(folder, words, processes=1):
    "`run_grid` in processes of their own; what still runs at the end is killed."
    # where the tests run in the background of a shell, Ctrl-C is ignored by what they start
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    imports = f"{heard}\nfrom diml_nb.experiments import grid, jobs"
    code = f"{imports}\ngrid.GRIDS = {grid.GRIDS}\n{words}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def lines_computed(folder):
    path = folder / "computed"
    return path.read_text().splitlines() if path.exists() else []


def test_four_processes_on_one_folder_and_one_is_killed(small, monkeypatch):
    "No row is computed twice, none is missing: the dead one's run is taken over where it was."
    monkeypatch.setattr(grid, "GRIDS", {"full": {"01_whole": dict(seed=range(5))}})
    write(small, "01_whole", COUNTED.replace("COMPUTED", str(small / "computed")), pause=1.5)
    with command(small, "jobs.run_grid('full', jobs=2)", processes=2) as started:
        wait_until(lambda: len(leases(small)) == 4 and len(lines_computed(small)) >= 4)
        victim = next(iter(leases(small).values()))
        os.kill(victim["process"], signal.SIGKILL)
        wait_until(lambda: all(process.poll() is not None for process in started))
        assert [process.returncode for process in started] == [0, 0]
    assert sorted(lines_computed(small)) == sorted(f"{s} {i}" for s in range(5) for i in range(3))
    assert grid.status("full").state.tolist() == [MEASURED] * 5


@pytest.mark.parametrize("sign", (signal.SIGINT, signal.SIGKILL), ids=lambda sign: sign.name)
def test_a_command_that_ends_leaves_nothing_running(small, monkeypatch, sign):
    monkeypatch.setattr(grid, "GRIDS", THREE)
    write(small, "01_whole", pause=60)
    with command(small, "jobs.run_grid('full', jobs=2)") as (process,):
        main = psutil.Process(process.pid)
        # each worker: its controller, itself, papermill, a kernel
        wait_until(lambda: len(leases(small)) == 2 and len(main.children(recursive=True)) >= 8)
        children = main.children(recursive=True)
        process.send_signal(sign)
        _, alive = psutil.wait_procs(children, timeout=90)
    assert not alive
    assert set(grid.status("full").state) == {"interrupted", "waiting"}


def test_one_grid_has_one_code(small, monkeypatch):
    "While somebody runs it, other code is refused; what changes in between is not run."
    monkeypatch.setattr(grid, "GRIDS", THREE)
    write(small, "01_whole", pause=2)
    with command(small, "jobs.run_grid('full', jobs=1)") as (process,):
        wait_until(lambda: leases(small))
        write(small, "01_whole", COMPUTE.replace("float(seed)", "float(seed) / 2"))
        with pytest.raises(ValueError, match="is running on .* by other code .* one code"):
            jobs.run_grid("full")
        _, said = process.communicate(timeout=120)
    assert "2 of 3 runs failed" in said
    assert said.count("its code is no longer that of the grid; changed: cells") == 2


FULL_DISK = """
import subprocess, sys
from diml_nb.experiments import grid, jobs
from diml_nb.experiments.runner import find_records
grid.GRIDS = {grids}
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "none", "disk"], check=True)
try:
    jobs.run_grid("full", seed=0, out="disk")
except (RuntimeError, OSError) as error:
    print("SAID", error, flush=True)
(path,) = __import__("pathlib").Path("disk/results/runs/01_whole").glob("*.json")
print("KEPT", len(__import__("json").loads(path.read_text())["rows"]), flush=True)
subprocess.run(["mount", "-o", "remount,size=9m", "disk"], check=True)
jobs.run_grid("full", seed=0, out="disk")
(record,) = find_records("01_whole", "full", results="disk/results")
print("ROWS", len(record.rows), flush=True)
"""


def test_a_full_disk_loses_nothing(small):
    "On a small disk of its own: a sentence, and with more room the run goes on where it was."
    apart = ["unshare", "--mount"]
    mount = [*apart, "mount", "-t", "tmpfs", "none", str(small / "data")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here; it takes root")
    (small / "disk").mkdir()
    large = COMPUTE.replace("made=time.time()", "made=time.time(), large='x' * 200_000")
    write(small, "01_whole", large)
    code = FULL_DISK.format(grids=grid.GRIDS | {"full": {"01_whole": {}}})
    done = subprocess.run([*apart, sys.executable, "-c", code], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.split()[:1] and line[:4].isupper()]
    assert done.returncode == 0, done.stderr[-2000:]
    assert said[0].startswith("SAID 1 of 1 runs failed") or "No space left" in said[0], said
    assert int(said[1].removeprefix("KEPT ")) >= 1
    assert said[-1] == "ROWS 3"


def test_shards_of_two_machines_are_merged(small, monkeypatch):
    monkeypatch.setattr(grid, "GRIDS", {"full": {"01_whole": dict(seed=range(2))}})
    for part in (0, 1):
        assert len(jobs.run_grid("full", shard=f"{part}/2", out=small / f"machine{part}")) == 1
    merged = merge_results(small / "machine1", "full", out=small / "machine0")
    assert (merged.records, merged.files) == (1, 1)
    assert set(grid.status("full", out=small / "machine0").rows) == {3}
