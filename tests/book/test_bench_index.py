"The benchmark of the index at 6,000 images: what it checks, and that its tables are its record's."

import copy
import re
import subprocess
import sys

import pytest
import torch

from bench import index as bench, provenance
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments.runner import find_record
from diml_nb.records.record import Record, load_record

COMMAND = [sys.executable, "-m", "bench.index"]
TIMED = ["official", *(f"{x} {n}" for n in bench.COUNTS for x in ("index", "faiss"))]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    "The record of a quick run, and what it printed."
    out = tmp_path_factory.mktemp("index")
    done = subprocess.run(
        [*COMMAND, "--preset", "quick", "--out", out, "--fresh"],
        capture_output=True,
        text=True,
        cwd=REPO_ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (out / "results" / bench.NAME).glob("*.json")
    return load_record(path), done.stdout


def is_complete(record: Record) -> bool:
    "Is there each row of each gallery, with each number?"
    for setting in record.config["sets"]:
        images = setting["images"]
        found = bench.result(record, "check", images)
        assert found["queries"] == record.config["checked"]
        assert max(found["alone"], found["batch"]) <= 1e-6
        times = bench.result(record, "times", images)
        assert set(times["ms"]) == set(TIMED)
        spreads = [*times["ms"].values(), times["batch"], times["official"]]
        assert all(0 < low <= middle <= high for middle, low, high in spreads)
        assert times["where"] == "memory" or bench.feature_bytes(images) > bench.MOST_BYTES
        assert times["codes_mb"] == times["vectors_mb"] / 4
        if setting["goals"]:
            first = bench.result(record, "first", images)
            assert first["first"] == pytest.approx(first["load"] + first["search"])
    kinds = {(row["config"]["part"], row["kind"]) for row in record.rows}
    assert kinds == {("check", "computed"), ("times", "timed"), ("first", "timed")}
    return record.finished and len(bench.goals(record)) == 3


def numbers_of(table: str) -> list[list[str]]:
    "The cells of each line of a table but the first two."
    return [[cell.strip() for cell in x.split("|")[1:-1]] for x in table.splitlines()[2:]]


def test_a_quick_run_measures_everything(quick):
    record, printed = quick
    assert is_complete(record)
    assert record.provenance["source"] == bench.own_source()
    assert bench.markdown(record) in printed
    assert {"commit", "packages", "processor", "system"} <= set(record.environment)


def test_the_tables_are_made_from_the_record(quick):
    record = copy.deepcopy(quick[0])
    times, first = (bench.result(record, part, 6000) for part in ("times", "first"))
    for place, name in enumerate(TIMED):
        times["ms"][name] = [1.25 + place, 1, 2]
    times["batch"], times["official"], first["first"] = [1.5, 1, 2], [0.1251, 0, 1], 0.75
    speed, reached, _ = bench.markdown(record).split("\n\n")
    ((images, where, *ms),) = numbers_of(speed)
    assert (images, where) == ("6,000 images", "memory")
    assert ms == [f"{times['ms'][name][0]:.3g}" for name in sorted(TIMED, key=column)]
    assert [line[1:] for line in numbers_of(reached)] == [
        ["1.5", "2", "reached"],
        ["0.125", "0.1", "not reached"],
        ["0.75", "1", "reached"],
    ]


def column(name: str) -> tuple:
    "The order of the table: the official loop, the index, faiss; few queries first."
    rival, _, count = name.partition(" ")
    return ["official", "index", "faiss"].index(rival), int(count or 0)


def test_other_lists_are_refused(tmp_path):
    "An index that finds something else is not measured."
    task = bench.gallery(600, 6, tmp_path)
    assert bench.check(task, 3)["queries"] == 3
    task.index.remove(int(task.position_q[0]))
    with pytest.raises(AssertionError, match="alone"):
        bench.check(task, 3)


def test_a_large_gallery_lies_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "MOST_BYTES", bench.feature_bytes(599))
    task = bench.gallery(600, 6, tmp_path)
    assert task.where == "disk"
    assert bench.check(task, 3)["queries"] == 3
    monkeypatch.setattr(bench, "MOST_BYTES", bench.feature_bytes(600))
    in_memory = bench.gallery(600, 6, tmp_path)
    assert in_memory.where == "memory"
    assert torch.equal(in_memory.x.global_bc, task.x.global_bc)


def test_a_record_is_kept_if_a_commit_can_repeat_it(quick, tmp_path):
    record = Record(bench.NAME, quick[0].config | dict(preset="full"), {}, finished=True)
    with pytest.raises(ValueError, match="only preset full"):
        bench.keep(quick[0], tmp_path)
    for commit in ("", 40 * "a" + " with changes"):
        record.environment["commit"] = commit
        with pytest.raises(ValueError, match="no commit holds"):
            bench.keep(record, tmp_path)
        assert bench.keep(record, tmp_path, dirty=True).exists()
    record.environment["commit"] = 40 * "a"
    assert bench.keep(record, tmp_path).name == f"{record.hash}.json"
    older = Record(bench.NAME, record.config | dict(checked=1), {}, finished=True)
    assert bench.keep(older, tmp_path, dirty=True).exists()
    assert len(list((tmp_path / bench.NAME).iterdir())) == 1  # in its place


def test_it_is_no_part_of_the_other_benchmark():
    assert not provenance.is_measured(REPO_ROOT / "bench" / "index.py")
    assert "retrieval/scan.c" in bench.own_source()


def test_the_committed_record_is_of_this_preset():
    record = find_record(bench.NAME, "full")
    assert is_complete(record)
    assert {name: record.config[name] for name in bench.PRESETS["full"]} == bench.PRESETS["full"]
    assert re.search(r"\| 1,000,000 images \| disk \|", bench.markdown(record))
