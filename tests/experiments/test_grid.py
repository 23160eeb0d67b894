"""A grid of runs by papermill, in a repository of two small notebooks: all run, one fails, one is
killed, finished ones are passed over."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments import grid, jobs, notebook, report
from diml_nb.experiments.runner import find_records
from diml_nb.records.record import load_record

COMPUTE = """
import time
from diml_nb.experiments.runner import ExperimentRun
config = dict(preset=preset, dataset=dataset, seed=seed)
folders = dict(results=results, figures=figures)
run = ExperimentRun(NAME, config, {}, version=1, fresh=fresh, **folders)
def measure():
    time.sleep(pause)
    return dict(value=[float(seed), 0., 1.], made=time.time())
for i in range(3): run.row(dict(i=i), measure)
"""
PARAMETERS = (
    "preset = 'full'\ndataset = ''\nseed = 0\npause = 0\nfresh = False\nresults = ''\nfigures = ''"
)
MEASURED = "measured, not published"
GRID = {"full": {"01_whole": dict(dataset=("emoji", "emoji_vendors"), seed=range(2))}}
THREE = {"full": {"01_whole": dict(dataset=("emoji",), seed=range(3))}}


def write(folder, name, compute=COMPUTE, pause=0):
    cells = [
        nbformat.v4.new_code_cell(
            PARAMETERS.replace("pause = 0", f"pause = {pause}"), metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell(compute.replace("NAME", f'"{name}"')),
        nbformat.v4.new_code_cell("run.finish()"),
    ]
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    written = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(written, folder / "nbs" / "reproduce" / f"{name}.ipynb")


@pytest.fixture
def small(tmp_path, monkeypatch):
    "A repository with the library and one experiment."
    (tmp_path / "nbs" / "reproduce").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "diml_nb").symlink_to(REPO_ROOT / "diml_nb")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DIML_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)  # its library is the one that processes started here import
    for module in (notebook, report):
        monkeypatch.setattr(module, "REPO_ROOT", tmp_path)
    monkeypatch.setattr(grid, "GRIDS", GRID)
    write(tmp_path, "01_whole")
    return tmp_path


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
