"""A run that is made longer is the long run."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from commands import run_diml
from small_runs import SMALL, few_images, load_weights, log_of

import diml_nb.learning.trainer as training
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.trained import evaluate_once
from diml_nb.learning.trainer import load_trained, train


@pytest.mark.parametrize(
    "changes",
    (
        dict(),
        dict(loss="margin", validation=0.0),
        dict(evaluate_every=2, epochs=3),
        dict(cached=False, pretrained=False, image_size=64, epochs=1, evaluate_every=1, lr=1e-4),
    ),
    ids=str,
)
def test_a_longer_run_is_the_long_run(tmp_path, changes):
    "Weights, moments, best epoch, log and configuration, bit by bit."
    short = TrainConfig(**SMALL | changes)
    long = replace(short, epochs=2 * short.epochs)
    images = few_images()
    train(long, tmp_path / "long", images=images)
    train(short, tmp_path / "longer", images=images)
    ended = json.loads((tmp_path / "longer" / "log.jsonl").read_text().splitlines()[-1])["step"]
    off_beat = (
        short.epochs % short.evaluate_every
        and load_trained(tmp_path / "longer").best["step"] == ended
    )
    if off_beat:
        with pytest.raises(ValueError, match="chose its last epoch"):
            train(long, tmp_path / "longer", images=images, extend=True)
        return
    with pytest.raises(
        ValueError,
        match=(
            f"epochs: {short.epochs} there, {long.epochs} now.; to go on to more epochs, add"
            " --resume"
        ),
    ):
        train(long, tmp_path / "longer", images=images)
    train(long, tmp_path / "longer", images=images, extend=True)
    for name in ("checkpoint", "model"):
        one, two = (load_weights(tmp_path / run, name) for run in ("long", "longer"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
    assert load_trained(tmp_path / "long")[2:] == load_trained(tmp_path / "longer")[2:]
    assert log_of(tmp_path / "long") == log_of(tmp_path / "longer")


def test_a_longer_run_can_be_killed(tmp_path, monkeypatch):
    "Killed on the way to more epochs, the same command goes on; the shorter run it is no more."
    short, images, kept = TrainConfig(**SMALL), few_images(), training._step
    long = replace(short, epochs=5)
    train(long, tmp_path / "long", images=images)
    train(short, tmp_path / "longer", images=images)
    steps = json.loads((tmp_path / "longer" / "log.jsonl").read_text().splitlines()[-1])["step"]

    def stop(state, *batch):
        if state.step == steps + 1:
            raise KeyboardInterrupt
        return kept(state, *batch)

    monkeypatch.setattr(training, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(long, tmp_path / "longer", images=images, extend=True)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="stopped at step"):
        evaluate_once(tmp_path / "longer", images=few_images("test"))
    with pytest.raises(ValueError, match="epochs: this run has 5, expected more, got 3"):
        train(replace(short, epochs=3), tmp_path / "longer", images=images, extend=True)
    train(long, tmp_path / "longer", images=images, extend=True)
    assert all(
        torch.equal(x, load_weights(tmp_path / "longer", "checkpoint")[k])
        for k, x in load_weights(tmp_path / "long", "checkpoint").items()
    )


def test_the_command_goes_on_with_the_settings_of_the_run(tmp_path, make_table):
    "Of all settings only the epochs are given again."
    common = [
        "--dataset",
        make_table(("test", few_images("test"))),
        "--loss",
        "margin",
        "--batch-size",
        "8",
        "--set",
        "validation=0.34",
        "--set",
        "embedding_dim=8",
    ]
    assert run_diml("train", *common, "--epochs", "2", "--out", tmp_path / "run")[0] == 0
    assert run_diml("train", *common, "--epochs", "4", "--out", tmp_path / "whole")[0] == 0
    assert run_diml("train", "--resume", "--epochs", "4", "--out", tmp_path / "run")[0] == 0
    assert asdict(load_trained(tmp_path / "run").config) == asdict(
        load_trained(tmp_path / "whole").config
    )
    assert all(
        torch.equal(x, load_weights(tmp_path / "run", "checkpoint")[k])
        for k, x in load_weights(tmp_path / "whole", "checkpoint").items()
    )
    for words, message in (
        (["--lr", "1"], "lr: "),
        (["--end-to-end"], "--end-to-end: a run that goes on keeps its settings"),
        (["--fresh"], "--fresh and --resume"),
        (["--epochs", "3"], "expected more"),
    ):
        status, said = run_diml(
            "train", "--resume", "--epochs", "6", "--out", tmp_path / "run", *words
        )
        assert status == 2
        assert message in said
    assert run_diml("train", "--resume", "--epochs", "6")[0] == 2
    assert run_diml("train", "--resume", "--out", tmp_path / "none")[0] == 2
