"`diml verify` on a copy of the committed records: what agrees, what was edited, what is missing."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diml_nb._internal.paths import REPO_ROOT, data_dir
from diml_nb.experiments.runner import find_record
from diml_nb.experiments.verify import choose_rows, executed_lines, lines_beyond
from diml_nb.records.comparison import compare_rows
from diml_nb.records.record import Record, load_record, save_record

DIML = str(Path(sys.executable).with_name("diml"))


@pytest.fixture
def data(tmp_path):
    "A data folder with the embedded images and one small record."
    folder = tmp_path / "data"
    (folder / "results" / "01_test_time").mkdir(parents=True)
    (folder / "emoji").symlink_to(data_dir() / "emoji")
    (folder / "golden").symlink_to(data_dir() / "golden")
    record = find_record("01_test_time", "quick")
    shutil.copy(
        data_dir() / "results" / "01_test_time" / f"{record.hash}.json",
        folder / "results" / "01_test_time",
    )
    return folder


def shell(data, *words):
    environment = os.environ | {"DIML_DATA": str(data), "OMP_NUM_THREADS": "1"}
    return subprocess.run([DIML, *words], capture_output=True, text=True, env=environment)


def test_rows_are_made_again_and_written_down(data):
    done = shell(data, "verify", "01_test_time", "--rows", "2", "--seed", "5")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 of 48 rows made again" in done.stdout
    assert "agrees" in done.stdout
    (entry,) = json.loads((data / "results" / "verified.json").read_text())
    assert entry["agrees"]
    assert (entry["experiment"], entry["rows"], entry["of"]) == ("01_test_time", 2, 48)
    assert (entry["seed"], entry["drawn"]) == (5, 2)
    assert set(entry) >= {
        "record",
        "commit",
        "packages",
        "device",
        "processor",
        "largest_difference",
        "date",
        "source",
    }


def test_an_edited_row_is_found(data, monkeypatch, diml, shared_kernel):
    "Whoever edits a result by hand is found by the draw that takes this row."
    (path,) = (data / "results" / "01_test_time").glob("*.json")
    record = load_record(path)
    row = next(row for row in record.rows if row["config"].get("method") == "cosine")
    row["result"]["precision_at_1"][0] += 0.02
    save_record(record, path)
    monkeypatch.setenv("DIML_DATA", str(data))
    seed = next(s for s in range(1000) if choose_rows("01_test_time", 1, s)[1] == [row["config"]])
    done = diml("verify", "01_test_time", "--rows", "1", "--seed", seed)
    assert done.returncode == 1
    assert "DIFFERS" in done.stdout
    assert "precision_at_1" in done.stdout
    (entry,) = json.loads((data / "results" / "verified.json").read_text())
    assert not entry["agrees"]
    assert entry["seed"] == seed


@pytest.mark.parametrize(
    "words,message",
    [
        (["99_nothing"], "expected one of 01_test_time"),
        (["02_training"], "no committed record of 02_training"),
        (["01_test_time", "--dataset", "cub"], "no committed record of 01_test_time on cub"),
        (["01_test_time", "--rows", "-1"], "rows: expected a number of rows"),
    ],
)
def test_what_cannot_be_verified_is_said(data, words, message, diml):
    done = diml("verify", *words, DIML_DATA=str(data))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (data / "results" / "verified.json").exists()


def test_a_set_that_is_not_here_is_asked_for(data, diml):
    target = data / "results" / "02_training"
    shutil.copytree(REPO_ROOT / "data" / "results" / "02_training", target)
    done = diml("verify", "02_training", "--dataset", "stamp_scenes", DIML_DATA=str(data))
    assert done.returncode == 2
    assert "diml data fetch stamp_scenes" in done.stderr


def test_rows_that_cannot_be_compared_verify_nothing(data, monkeypatch):
    "A row of times alone leaves no entry that says agrees."
    from diml_nb.experiments import verify

    record = find_record("01_test_time", "quick")
    timed = [dict(record.rows[0], kind="timed")]
    monkeypatch.setenv("DIML_DATA", str(data))
    monkeypatch.setattr(
        verify,
        "recompute",
        lambda *_, **__: Record("01_test_time", record.config, record.inputs, rows=timed),
    )
    monkeypatch.setattr(
        verify,
        "choose_rows",
        lambda *_: (
            data_dir() / "results" / "01_test_time" / f"{record.hash}.json",
            [timed[0]["config"]],
        ),
    )
    with pytest.raises(ValueError, match="none of the 1 drawn rows can be compared"):
        verify.verify("01_test_time")
    assert not (data / "results" / "verified.json").exists()


def test_a_stale_record_is_not_verified(data, diml):
    (path,) = (data / "results" / "01_test_time").glob("*.json")
    record = load_record(path)
    record.version = 0
    path.unlink()
    save_record(record, path.with_name(f"{record.hash}.json"))
    done = diml("verify", "01_test_time", DIML_DATA=str(data))
    assert done.returncode == 2
    assert "version 0 of 01_test_time, and the notebook declares 2" in done.stderr


def test_a_mismatch_names_experiment_row_field_and_both_values():
    row = dict(config=dict(method="DIML", grid=4), kind="computed")
    (mismatch,) = compare_rows(
        "07_beyond",
        [row | dict(result=dict(score=0.6931))],
        [row | dict(result=dict(score=0.6874))],
    ).mismatches
    assert (
        str(mismatch)
        == '07_beyond, row {"method": "DIML", "grid": 4}, score: 0.6931 -> 0.6874 (allowed: 0.0001)'
    )


def test_lines_are_told_apart(tmp_path):
    "Coverage of two small programs: the line that only the longer one executes is named."
    found = []
    # not those of `make coverage`
    outside = {name: x for name, x in os.environ.items() if not name.startswith("COVERAGE_")}
    for name, code in (("long", "cost.euclidean_cost(x, x)"), ("short", "pass")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "settings").write_text(
            f"[run]\nsource = diml_nb\nparallel = true\ndata_file = {folder / 'data'}\n"
        )
        program = f"import torch; from diml_nb.ot import cost; x = torch.rand(1, 4, 3); {code}"
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            env=outside | {"COVERAGE_PROCESS_START": str(folder / "settings")},
        )
        found.append(executed_lines(folder))
    beyond = lines_beyond(*found)
    assert beyond
    assert {line.split(":")[0] for line in beyond} <= {
        "ot.cost",
        "_internal.checks",
        "_internal.device",
    }
    assert lines_beyond(found[1], found[0]) == []
