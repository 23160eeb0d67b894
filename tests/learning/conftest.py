from functools import partial

import pytest
from small_runs import short_run, write_table

import diml_nb.learning.trained as trained
import diml_nb.learning.trainer as trainer


@pytest.fixture
def nothing_computed(monkeypatch):
    "Any forward pass, and any file of maps, is a fault."

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr(trainer, "EmbeddingInputs", refuse)
    monkeypatch.setattr(trainer, "build_backbone", refuse)
    monkeypatch.setattr(trained, "load_trained", refuse)
    monkeypatch.setattr(trained, "EmbeddingInputs", refuse)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    "A short run on cached maps; tests do not write into it."
    return short_run(tmp_path_factory)


@pytest.fixture
def make_table(tmp_path):
    "Writes a table of some emoji: see `write_table`."
    return partial(write_table, tmp_path)
