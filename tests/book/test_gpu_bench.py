"The benchmark of a GPU at tiny sizes on the CPU: all rows are measured, no failure is lost."

import argparse
import os
import subprocess
import sys
import time

import pytest

from bench import gpu, provenance
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.records.record import Record, load_record

COMMAND = [sys.executable, "-m", "bench.gpu", "--device", "cpu", "--preset", "smoke"]


def options(out, **changed) -> argparse.Namespace:
    given = dict(preset="smoke", device="cpu", seconds=60.0, out=str(out), fresh=False)
    given |= dict(record=False, dirty=False, go_on=False)
    return argparse.Namespace(**given | changed)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    "The record of a run that had no time, and of the same command with time; and what it printed."
    out = tmp_path_factory.mktemp("gpu")
    hurried = gpu.measure_all(options(out, seconds=0.0))
    done = subprocess.run(
        [*COMMAND, "--out", out, "--seconds", "500"],
        capture_output=True,
        text=True,
        cwd=REPO_ROOT,
        env=os.environ | dict(OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (out / "results" / gpu.NAME).glob("*.json")
    return hurried, load_record(path), done.stdout


def test_without_time_every_row_says_so(smoke):
    hurried = smoke[0]
    assert hurried.finished
    reasons = [gpu.why_not(row["result"]) for row in hurried.rows]
    assert all(reasons)
    assert {line[-1] for line in gpu.goals(hurried)} == {"not measured"}


def test_a_second_run_measures_what_was_missing(smoke):
    record = smoke[1]
    failures = [row for row in record.rows if gpu.why_not(row["result"])]
    assert failures == []
    parts = [part.config for part in gpu.parts_of(gpu.PRESETS["smoke"], "cpu")]
    assert [row["config"] for row in record.rows] == parts
    assert record.provenance["source"] == gpu.own_source()
    assert {row["kind"] for row in record.rows} == {"timed"}


def test_similarities_are_those_of_match(smoke):
    for _, found in gpu.results(smoke[1], "check"):
        assert found["similarity"] < 1e-6
        assert found["lists"] < 1e-6
    for part in ("pot", "compiled"):
        for _, found in gpu.results(smoke[1], part):
            assert found["gap"] < 2e-3, part
            assert found["unable"] == {}


def test_the_tables_are_the_records(smoke):
    record, printed = smoke[1:]
    assert gpu.markdown(record) in printed
    names = {
        name
        for part in ("pairs", "pot", "compiled")
        for _, found in gpu.results(record, part, grid=4)
        for name in found["ns"]
    }
    assert len(names) == 7
    assert all(name in gpu.pairs_table(record) for name in names)


def test_goals_are_judged_by_the_record(smoke):
    config = smoke[1].config | dict(
        preset="full",
        pairs=[dict(grid=4, goal=20.0)],
        steps=[dict(grid=4, goal=3.0)],
        memory_goal=100.0,
    )
    record = Record(gpu.NAME, config, {})
    record.rows = [
        dict(config=dict(part="pairs", grid=4), result=dict(ns=dict(ours=[19.0, 18, 21]))),
        dict(config=dict(part="step", grid=4), result=dict(ms=[3.5, 3, 4])),
        dict(config=dict(part="memory", grid=4), result=dict(failed="RuntimeError: no")),
    ]
    lines = gpu.goals(record)
    assert [line[2:] for line in lines] == [
        ["20", "19", "reached"],
        ["3", "3.5", "not reached"],
        ["100", "RuntimeError: no", "not measured"],
    ]
    # what the other benchmark measured on a GPU stands beside it
    assert all(float(line[1].replace(",", "")) > 0 for line in lines)
    assert lines[1][1] == f"{gpu.earlier('step', 4):,.4g}"
    assert gpu.earlier("pairs", 5) is None


def test_precisions_are_named_in_words(smoke, monkeypatch):
    "The default of `train` allows TF32 in convolutions, and no table calls that float32 alone."
    table = gpu.training_table(smoke[1])
    assert "| float32, no TF32 |" in table
    assert "| bfloat16 |" in table
    assert set(gpu.PRECISIONS) == {switches["precision"] for switches in gpu.SWITCHES}
    monkeypatch.setattr(gpu, "find_record", lambda *_, **__: smoke[1])
    shown = gpu.on_gpu("training", "precision", "images_per_second", "measured_gb")
    assert list(shown.columns) == ["precision", "images_per_second"]
    assert set(shown["precision"]) == {"float32, no TF32", "bfloat16"}


def test_a_chapter_says_that_nothing_was_measured(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(gpu, "find_record", missing)
    assert gpu.on_gpu("training", "precision").startswith("not measured yet")
    assert gpu.earlier("step", 4) is None


# failures


def part(measure) -> gpu.Part:
    return gpu.Part(dict(part="machine"), "machine", measure)


def test_a_failure_is_a_result():
    def broken():
        raise ImportError("no module\nnamed so")

    assert gpu.attempt(part(broken), 0, 10) == dict(failed="ImportError: no module named so")


def test_what_takes_too_long_is_stopped():
    start = time.perf_counter()
    result = gpu.attempt(part(lambda: time.sleep(60)), 0, 0.2)
    assert result["failed"].startswith("TimeoutError")
    assert time.perf_counter() - start < 30
    assert gpu.attempt(part(dict), 0, 10) == {}


def test_what_does_not_fit_is_not_begun():
    found = gpu.attempt(part(lambda: pytest.fail("it was begun")), 8, 7.5)
    assert found == dict(skipped="it takes up to 8 s, 8 s were left")


def test_after_a_lost_device_a_new_process_goes_on(monkeypatch, tmp_path):
    "The rows that are there are kept, the failed one too: it would be lost again."
    calls = []
    monkeypatch.setattr(gpu, "usable", lambda device: False)
    monkeypatch.setattr(gpu.os, "execv", lambda *words: calls.append(words[1]) or sys.exit(9))

    def lost():
        raise RuntimeError("an illegal memory access was encountered")

    fine = gpu.Part(dict(part="loader", workers=0, pinned=False), "loader", lambda: dict(x=1.0))
    monkeypatch.setattr(gpu, "parts_of", lambda *_: [fine, part(lost)])
    given = options(tmp_path, record=True)
    with pytest.raises(SystemExit):
        gpu.measure_all(given)
    assert {"--go-on", "--record", str(tmp_path)} <= set(calls[0])
    assert "--fresh" not in calls[0]
    given.go_on = True
    record = gpu.measure_all(given)
    assert record.finished
    assert [gpu.why_not(row["result"]) for row in record.rows] == [
        "",
        "RuntimeError: an illegal memory access was encountered",
    ]


def test_the_full_preset_has_the_goals_and_every_switch():
    parts = gpu.parts_of(gpu.PRESETS["full"], "cuda")
    assert len({str(part.config) for part in parts}) == len(parts)
    assert {part.kind for part in parts} == set(gpu.NEEDS)
    assert sum(part.config["part"] == "training" for part in parts) == 13
    assert sum(part.config["part"] == "loader" for part in parts) == 8
    asked = gpu.PRESETS["full"]["pairs"] + gpu.PRESETS["full"]["steps"]
    assert [setting["goal"] for setting in asked] == [20.0, 50.0, 3.0, None]


def test_a_device_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--device", "cuda:99"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "torch cannot compute on 'cuda:99' here" in capsys.readouterr().err


def test_it_is_no_part_of_the_other_benchmark():
    for name in ("gpu", "gpu_pairs", "gpu_training"):
        assert not provenance.is_measured(REPO_ROOT / "bench" / f"{name}.py")
    assert "ot.pairs.score_pairs" in gpu.own_source()


# memory


def test_a_prediction_from_few_images_is_that_of_many():
    from bench.gpu_training import Size, Switches, Trainer, predicted_bytes

    trainer = Trainer(Size("torchvision/resnet18", 64, 64, 16, 2), Switches(), "cpu")
    trainer.step(*trainer.batch(4))
    predicted = predicted_bytes(trainer, 32, 64)
    assert predicted == pytest.approx(predicted_bytes(trainer, 64, 64), rel=0.05)
