from functools import partial

import pytest
from filelock import FileLock
from scheduling import folder_of_this_run
from small_runs import SMALL, few_images, write_table

import diml_nb.learning.trained as trained
import diml_nb.learning.trainer as trainer
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.trainer import train


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
    folder = folder_of_this_run(tmp_path_factory) / "short-run"
    with FileLock(f"{folder}.lock"):
        train(TrainConfig(**SMALL), folder, images=few_images())
    return folder


@pytest.fixture
def table(tmp_path):
    "Writes a table of some emoji: see `write_table`."
    return partial(write_table, tmp_path)
