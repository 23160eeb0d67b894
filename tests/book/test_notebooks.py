"Every notebook of the book runs from top to bottom."

import shutil
import subprocess

import pytest
from nbdev.test import test_nb as run_notebook

from diml_nb._internal.paths import REPO_ROOT

NOTEBOOKS = sorted(
    [*(REPO_ROOT / "nbs").glob("[!_]*.ipynb"), *(REPO_ROOT / "nbs" / "howto").glob("*.ipynb")]
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    passed, _ = run_notebook(path)
    assert passed, f"{path.name} failed; its error stands in the captured output"


def test_all_are_found():
    "All that git holds, but for templates and what other tests run."
    done = subprocess.run(
        ["git", "ls-files", "nbs/*.ipynb"],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = ("nbs/reproduce/", "nbs/explore/", "nbs/_template")
    held = {name for name in done.stdout.splitlines() if not name.startswith(elsewhere)}
    assert held <= {path.relative_to(REPO_ROOT).as_posix() for path in NOTEBOOKS}


def test_a_new_chapter(tmp_path):
    "`make new` starts a notebook that runs as it is, and never takes the place of one."
    (tmp_path / "nbs").mkdir()
    for name in ("Makefile", "nbs/_template.ipynb"):
        shutil.copy(REPO_ROOT / name, tmp_path / name)

    def make(name):
        return subprocess.run(
            ["make", "--silent", "new", f"NAME={name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    assert "expected two digits" in make("thing").stdout
    assert "there already" not in make("47_new_thing").stdout
    path = tmp_path / "nbs" / "47_new_thing.ipynb"
    assert "#| default_exp new_thing" in path.read_text()
    assert run_notebook(path)[0]
    assert make("47_new_thing").returncode
    assert "is there already" in make("47_new_thing").stdout
