"""Variables that a cluster or a launcher left behind."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from commands import run_diml
from small_runs import SMALL, few_images, load_weights

from diml_nb.learning.config import TrainConfig
from diml_nb.learning.evaluation import LAUNCHER_VARIABLES, join_process_group
from diml_nb.learning.trained import evaluate_once
from diml_nb.learning.trainer import train


@pytest.mark.parametrize(
    "left",
    (
        dict(RANK="3"),
        dict(RANK="1", WORLD_SIZE="4"),
        dict(WORLD_SIZE="4", MASTER_ADDR="node7"),
        dict(SLURM_PROCID="3", SLURM_NTASKS="8"),
    ),
    ids=str,
)
def test_what_a_cluster_left_is_no_distributed_run(left, monkeypatch, run, tmp_path):
    """All queries, one process, the same weights; what is missing is said where something would be
    lost."""
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert join_process_group() == (0, 1)
    if left.keys() & {"RANK", "WORLD_SIZE"}:
        assert all(name in str(said[0].message) for name in LAUNCHER_VARIABLES)
    warnings.simplefilter("ignore")
    train(TrainConfig(**SMALL), tmp_path / "run", images=few_images())
    assert all(
        torch.equal(x, load_weights(tmp_path / "run", "model")[k])
        for k, x in load_weights(run, "model").items()
    )
    record = evaluate_once(tmp_path / "run", images=few_images("test"), resamples=50)
    assert len(record.rows[0]["result"]["per_query"]["precision_at_1"]) == len(few_images("test"))


@pytest.mark.parametrize("left", (dict(LOCAL_RANK="2"), dict(OMPI_COMM_WORLD_SIZE="4")), ids=str)
def test_accelerate_does_not_read_what_is_left(tmp_path, left):
    "In a process of its own, for it is read once."
    code = (
        "from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig\n"
        "from diml_nb.learning.trainer import _accelerator\n"
        "print(_accelerator(TrainConfig(**CACHED_MAPS_CONFIG)).num_processes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | left,
        timeout=100,
    )
    assert done.stdout == "1\n", done.stderr[-2000:]


def test_the_command_speaks_where_a_rank_is_left(monkeypatch, tmp_path, make_table):
    monkeypatch.setenv("RANK", "2")
    with pytest.warns(UserWarning, match="RANK=2 is set, but not WORLD_SIZE"):
        status, said = run_diml(
            "train",
            "--dataset",
            make_table(("test", few_images("test"))),
            "--epochs",
            "1",
            "--batch-size",
            "8",
            "--set",
            "validation=0.34",
            "--out",
            tmp_path / "run",
        )
    assert status == 0
    assert "model.safetensors" in said


@pytest.mark.parametrize(
    "ranks",
    (
        dict(RANK="4", WORLD_SIZE="4"),
        dict(RANK="x", WORLD_SIZE="4"),
        dict(RANK="-1", WORLD_SIZE="4"),
    ),
    ids=str,
)
def test_ranks_that_contradict_each_other_are_refused(monkeypatch, ranks):
    for name, value in (dict.fromkeys(LAUNCHER_VARIABLES, "0") | ranks).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match="RANK=.*expected whole numbers with RANK below WORLD_SIZE"
    ):
        join_process_group()


def test_settings_of_another_launcher_do_not_reach_training(monkeypatch, tmp_path, run):
    "Eight accumulated steps would be an eighth of each gradient."
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    train(TrainConfig(**SMALL), tmp_path / "run", images=few_images())
    assert all(
        torch.equal(x, load_weights(tmp_path / "run", "model")[k])
        for k, x in load_weights(run, "model").items()
    )
