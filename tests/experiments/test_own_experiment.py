"`make experiment` starts an experiment that runs as it is, in a repository of two files."

import json
import os
import re
import shutil
import subprocess

import pytest

from diml_nb._internal.paths import REPO_ROOT, data_dir
from diml_nb.experiments import notebook, runner
from diml_nb.experiments.claims import Claim, row_pair
from diml_nb.experiments.pooling import PooledRecords

NAME = "16_thing"


def make(home, name):
    "Exit status and output of `make experiment`."
    command = ["make", "--silent", "experiment", f"NAME={name}"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "The repository, with one experiment in it."
    folder = tmp_path_factory.mktemp("repository")
    for name in ("Makefile", "nbs/reproduce/_template.ipynb", "nbs/reproduce/VERSIONS.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO_ROOT / name, folder / name)
    (folder / "data").mkdir()
    (folder / "data" / "emoji").symlink_to(data_dir() / "emoji")
    (folder / "diml_nb").symlink_to(REPO_ROOT / "diml_nb")
    status, said = make(folder, NAME)
    assert status == 0
    assert f"diml verify {NAME} --pin" in said
    return folder


@pytest.fixture
def inside(home, monkeypatch):
    "This process and those that it starts take that repository for theirs."
    monkeypatch.setenv("PYTHONPATH", str(home), prepend=os.pathsep)
    monkeypatch.setenv("DIML_DATA", str(home / "data"))
    monkeypatch.setattr(notebook, "REPO_ROOT", home)
    return home


def test_a_wrong_name_is_refused(home):
    before = sorted(home.rglob("*"))
    for name in ("thing", "16_Thing", "16_", "../16_thing", "16_thing; touch it", ""):
        status, said = make(home, name)
        assert status
        assert "expected two digits and a word" in said
    assert sorted(home.rglob("*")) == before


def test_an_experiment_that_is_there_stays(home):
    path = home / "nbs" / "reproduce" / f"{NAME}.ipynb"
    before = path.read_text()
    status, said = make(home, NAME)
    assert status
    assert f"{NAME}.ipynb is there already" in said
    assert path.read_text() == before


def test_it_is_an_experiment_of_version_1(inside):
    assert list(notebook.experiments()) == [NAME]  # the template itself is none
    assert notebook.declared_version(NAME) == 1
    versions = (inside / "nbs" / "reproduce" / "VERSIONS.md").read_text()
    assert versions.count(f"| {NAME} | 1 | first version |\n") == 1
    given = notebook.notebook_parameters(NAME)
    assert {"preset", "dataset", "seed", "fresh", "results", "figures"} < set(given)
    assert given["eps"] == given["classes"] == ""
    assert "NAME" not in (inside / "nbs" / "reproduce" / f"{NAME}.ipynb").read_text()


def commented_claim(path):
    "The claim that stands in the notebook as a comment."
    code = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    (cell,) = [text for text in code if text.startswith("# Claim(")]
    lines = [line.removeprefix("#") for line in cell.splitlines() if line.startswith("#")]
    return "".join(lines).strip(" ,")


def test_it_runs_as_it_is(inside, tmp_path):
    """Papermill runs the smoke preset; a record, an answer and a figure are there, and its claim
    finds its rows."""
    executed = runner.run_experiment(NAME, "smoke", out=tmp_path, quiet=True)
    record = runner.find_record(NAME, "smoke", results=tmp_path / "results")
    assert record.version == 1
    assert {row["kind"] for row in record.rows} == {"computed", "timed"}
    (path,) = (tmp_path / "results" / "answers").glob(f"{NAME}-*.json")
    answer = json.loads(path.read_text())
    assert answer["question"] == notebook.lead_question(NAME)
    assert re.search(
        r"-?\d\.\d \([+-]\d+\.\d to [+-]\d+\.\d\) points with eps 0\.05 .* over 6 classes",
        answer["answer"],
    )
    assert (tmp_path / "figures" / f"{NAME}-emoji.png").samefile(answer["figure"])
    claim = eval(commented_claim(executed), dict(Claim=Claim, row_pair=row_pair))
    assert claim.experiment == NAME
    ((better, worse),) = claim.differences(None)
    mean, low, high = PooledRecords([record]).interval(better, claim.metric, minus=worse)
    assert low <= mean <= high
