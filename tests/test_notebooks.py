"Every notebook of the book runs from top to bottom."
import pytest
from nbdev.test import test_nb as run_notebook

from diml_nb.core import REPOSITORY

NOTEBOOKS = sorted([*(REPOSITORY / "nbs").glob("*.ipynb"), *(REPOSITORY / "nbs" / "howto").glob("*.ipynb")])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    passed, _ = run_notebook(path)
    assert passed, f"{path.name} failed; its error stands in the captured output"


def test_all_are_found():
    assert len(NOTEBOOKS) >= 13
