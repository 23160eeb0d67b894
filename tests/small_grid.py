"""A repository of small notebooks for tests of grids, and how far their runs are."""

import os
import time

import nbformat
import pytest

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments import grid, notebook, report
from diml_nb.experiments.leases import work_state

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


# a row says in a file of all runs that it was computed
COUNTED = COMPUTE.replace(
    "return dict(", "print(seed, i, file=open('COMPUTED', 'a'), flush=True)\n    return dict("
)


def wait_until(is_so, seconds=120):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def leases(folder):
    "Of each run that is under way, its name and what its lease says."
    works = {
        path.with_name(path.name.rpartition(".lease-")[0] + ".ipynb")
        for path in (folder / "data" / "runs" / "full").glob("*.lease-*.json")
    }
    states = {work.stem: work_state(work) for work in sorted(works)}
    return {name: state.facts for name, state in states.items() if state.state == "running"}
