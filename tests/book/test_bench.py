"The benchmark at tiny sizes: the same code as `make bench`, results checked before they are timed."

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import explorer, provenance, suite, tables
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments.runner import find_record
from diml_nb.records.provenance import fingerprint
from diml_nb.records.record import Record, load_record, save_record

BENCH = [sys.executable, "-m", "bench"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [*BENCH, "--preset", "smoke", "--threads", "1,2", "--out", out, "--fresh"],
        capture_output=True,
        text=True,
        cwd=REPO_ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout


def test_every_part_is_measured_and_the_same(smoke):
    out, printed = smoke
    (record,) = (out / "results" / "bench").glob("*.json")
    rows = [(row["config"], row["result"]) for row in json.loads(record.read_text())["rows"]]
    checks = {config["part"]: result for config, result in rows if "checked" in config}
    assert set(checks) == {"evaluation", "training"}
    assert checks["evaluation"]["similarity"] < 1e-6
    assert {config["part"] for config, _ in rows} == {"machine", "evaluation", "training", "bank"}
    for _, result in rows:
        if "ms" in result:
            assert all(low <= middle <= high for middle, low, high in result["ms"].values())
            assert result["ratio"]["ours"][0] > 0
    assert (out / "figures" / "bench.png").stat().st_size > 10_000
    assert len(re.findall(r"^\| (?:a query|a training step|a bank on disk) \|", printed, re.M)) == 3


def test_only_what_is_compared_is_computed(smoke):
    "The rest hangs on the clock or on the memory of the machine."
    (path,) = (smoke[0] / "results" / "bench").glob("*.json")
    kinds = {("checked" in row["config"], row["kind"]) for row in load_record(path).rows}
    assert kinds == {(True, "computed"), (False, "timed")}


def test_a_fresh_record_is_of_this_code(smoke):
    (path,) = (smoke[0] / "results" / "bench").glob("*.json")
    assert load_record(path).provenance["source"] == provenance.source_here()
    assert "since then" not in smoke[1]
    assert "--publish" not in smoke[1]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--only", "speed"], "got speed"),
        (["--folder", "/no/such/place"], "no folder /no/such/place"),
        (["--publish", "--preset", "smoke"], "only preset full"),
        (["--dirty"], "with --publish only"),
    ],
)
def test_wrong_words_are_named(options, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    with pytest.raises(SystemExit) as ended:
        suite.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# the committed records


@pytest.fixture(params=["cpu", "cuda"])
def committed(request):
    return find_record("bench", "full", device=request.param)


def test_a_record_is_named_by_what_is_measured(committed):
    config = {name: committed.config[name] for name in ("preset", "device", "threads")}
    config |= dict(seed=0) | suite.PRESETS["full"]
    assert committed.hash == Record("bench", config, {}, 1).hash
    assert committed.hash != Record("bench", config | dict(threads=[3]), {}, 1).hash
    assert (REPO_ROOT / "data" / "results" / "bench" / f"{committed.hash}.json").exists()


def test_the_tables_of_a_record_say_what_changed_since(committed):
    here = provenance.source_here()
    committed.environment["commit"] = "15acd96f" + 32 * "0"
    committed.provenance["source"] = here
    assert provenance.changed_since(committed) == ""
    committed.provenance["source"] = here | {"cells": "x", "features.store.FeatureStore": "x"}
    sentence = provenance.changed_since(committed)
    assert sentence.startswith("(measured at commit 15acd96f; since then 2 definitions that it")
    assert set(re.findall("`([^`]+)`", sentence)) == {"features.store.FeatureStore", "bench/*.py"}
    assert tables.markdown(committed).endswith(f"\n\n{sentence}")
    committed.provenance["source"] = {name: "other" for name in here}
    assert re.search(
        rf"since then {len(here)} definitions .*: (`[^`]+`, ){{6}}\.\.\.\)$",
        provenance.changed_since(committed),
    )


def test_how_a_record_is_kept_is_not_what_is_measured():
    names = provenance.source_here()
    assert {
        "ot.matching.match",
        "ot/pair.c",
        "learning.losses.make_loss",
        "features.store.write_store",
    } <= set(names)
    kept = ("experiments.", "records.", "viz.figures.", "_internal.paths.atomic_write")
    assert [name for name in names if name.startswith(kept)] == []


def test_each_name_of_what_is_not_measured_is_reached():
    "A module that moved would be measured from then on, and nobody would notice."
    benchmark = Path(provenance.__file__).parent.glob("*.py")
    reached = provenance.source_of([path.read_text() for path in benchmark])
    for start in ("viz.figures.", "_internal.paths.atomic_write"):
        assert start in provenance.KEEPING
        assert any(name.startswith(start) for name in reached), start


def test_the_processor_is_named(committed):
    machine = [row["result"] for row in committed.rows if row["config"]["part"] == "machine"]
    name = machine[0].pop("processor")
    committed.environment["processor"] = f"{name} of the environment"
    assert f"({name} of the environment, Linux" in tables.markdown(committed)


# publishing


@pytest.fixture
def run(tmp_path, monkeypatch):
    "A finished full run in a folder, made at a commit that holds its code."
    record = find_record("bench", "full", device="cpu")
    record.config["threads"] = [1]
    record.environment["commit"] = 40 * "a"
    record.provenance = {"source": {"cells": fingerprint("x = 1")}}
    path = save_record(record, tmp_path / "run" / "results" / "bench" / f"{record.hash}.json")
    (tmp_path / "run" / "figures").mkdir()
    (tmp_path / "run" / "figures" / "bench.png").write_bytes(b"the new figure")
    monkeypatch.setattr(provenance, "code_at", {40 * "a": ["x = 1"]}.get)
    return path


@pytest.fixture
def places(tmp_path):
    "The committed records and figures, in a folder of the test."
    results, figures = tmp_path / "results", tmp_path / "figures"
    figures.mkdir()
    (figures / "bench.png").write_bytes(b"the old figure")
    for device in ("cpu", "cuda"):
        record = find_record("bench", "full", device=device)
        save_record(record, results / "bench" / f"{record.hash}.json")
    (results / "bench" / "notes.json").write_text("[]")
    return results, figures


def test_publishing_replaces_the_record_of_the_same_device(run, places):
    results, figures = places
    old = {path.stem for path in results.glob("bench/*.json")}
    copies = suite.publish(run.parents[2], "cpu", results, figures)
    assert copies == [results / "bench" / run.name, figures / "bench.png"]
    assert copies[0].read_text() == run.read_text()
    assert copies[1].read_bytes() == b"the new figure"
    gone = find_record("bench", "full", device="cpu").hash
    assert {path.stem for path in results.glob("bench/*.json")} == old - {gone} | {run.stem}
    assert suite.publish(run.parents[2], "cpu", results, figures) == copies


def changed(path: Path, **environment) -> None:
    record = load_record(path)
    record.environment |= environment
    save_record(record, path)


@pytest.mark.parametrize(
    "commit, said",
    [
        (40 * "a" + " with changes", "no commit holds"),
        ("", "no git"),
        (40 * "b", "another benchmark"),
    ],
)
def test_code_that_no_commit_holds_is_published_on_demand_only(
    run, places, monkeypatch, commit, said
):
    changed(run, commit=commit)
    monkeypatch.setattr(provenance, "code_at", {40 * "b": ["x = 2"]}.get)
    before = {path: path.read_bytes() for path in run.parents[3].rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=said):
        suite.publish(run.parents[2], "cpu", *places)
    assert before == {
        path: path.read_bytes() for path in run.parents[3].rglob("*") if path.is_file()
    }
    assert suite.publish(run.parents[2], "cpu", *places, dirty=True)[0].exists()


def test_a_commit_that_is_not_here_is_said():
    with pytest.raises(ValueError, match="no commit 00000000 here"):
        provenance.code_at(40 * "0")


def test_there_is_nothing_to_publish(tmp_path, places):
    empty = tmp_path / "empty"
    done = subprocess.run(
        [*BENCH, "--publish", "--out", empty], capture_output=True, text=True, cwd=REPO_ROOT
    )
    assert done.returncode == 2
    assert "`python -m bench` makes one" in done.stderr
    with pytest.raises(ValueError, match="-m bench --device cuda` makes one"):
        suite.publish(empty, "cuda", *places)


def test_a_record_without_its_figure_is_not_published(run, places):
    (run.parents[2] / "figures" / "bench.png").unlink()
    before = sorted(places[0].rglob("*"))
    with pytest.raises(ValueError, match="figure of record .* is not there"):
        suite.publish(run.parents[2], "cpu", *places)
    assert before == sorted(places[0].rglob("*"))


def test_what_parts_add_to_an_explanation():
    taken = explorer.explanation(2)
    assert list(taken) == ["network", "match", "parts"]
    assert all(0 < low <= middle <= high for middle, low, high in taken.values())
