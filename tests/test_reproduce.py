"Papermill runs in processes of their own: a smoke run of every experiment, a kill and a resume, a failure."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from diml_nb.core import REPOSITORY, load_record
from diml_nb.data import SOURCES, get_dataset
from diml_nb.reproduce import METRICS, code_now, experiments, find_record, find_records, readme_table, reproduce, table, tables


DIML = str(Path(sys.executable).with_name("diml"))


def parameters(path):
    return [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]


@pytest.mark.parametrize("name", experiments())
def test_one_parameters_cell_of_plain_values(name):
    (cell,) = parameters(experiments()[name])
    values = {}
    exec(cell.source, values)
    assert all(isinstance(v, (str, int, float, bool)) for k, v in values.items() if k != "__builtins__") and "preset" in values


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    "The output folder of a smoke run from the command line, and what it printed."
    out = tmp_path_factory.mktemp("smoke")
    command = [DIML, "reproduce", "01_test_time", "--preset", "smoke", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


def test_smoke(smoke):
    out, printed = smoke
    record = find_record("01_test_time", "smoke", results=out / "results")
    assert record.finished and record.hash in printed and "transport" in printed and "best_cell" in printed
    rows = [r for r in record.rows if set(METRICS) <= set(r["result"])]
    assert len(rows) == 8
    for row in rows:
        for name in METRICS:
            mean, low, high = row["result"][name]
            values = row["result"]["per_query"][name]
            assert low <= mean <= high and abs(mean - sum(values) / len(values)) < 1e-5
            assert row["result"]["official_convention"]["r_precision"] <= row["result"]["r_precision"][0]
    assert {p.name for p in (out / "figures").iterdir()} >= {"01_test_time-marginals.png", "01_test_time-helped.png"}


def test_executed_notebook_has_its_parameters(smoke):
    cells = nbformat.read(smoke[0] / "01_test_time.smoke.ipynb", 4).cells
    (injected,) = [c for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert 'preset = "smoke"' in injected.source
    assert cells.index(injected) == 1 + next(i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))


def test_record_names_its_inputs(smoke):
    record = find_record("01_test_time", "smoke", results=smoke[0] / "results")
    assert set(record.inputs) == {"data", "weights", "code"} and all(len(x) == 64 for x in record.inputs.values())
    assert record.environment["packages"]["torch"] and record.config["seed"] == 0


def test_the_same_rows_to_the_last_digit(smoke, tmp_path, monkeypatch):
    "A run elsewhere, into a folder named relatively, gives the same record."
    monkeypatch.chdir(tmp_path)
    reproduce("01_test_time", "smoke", out="here")
    first, second = (find_record("01_test_time", "smoke", results=x / "results") for x in (smoke[0], tmp_path / "here"))
    assert first.hash == second.hash
    assert [(r["config"], r["result"]) for r in first.rows] == [(r["config"], r["result"]) for r in second.rows]


def test_killed_run_goes_on(tmp_path):
    "SIGKILL to the whole process group after a few rows; the next call keeps them and finishes."
    command = [DIML, "reproduce", "01_test_time", "--preset", "smoke", "--out", str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial, deadline = lambda: next((tmp_path / "results" / "runs" / "01_test_time").glob("*.json"), None), time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not (partial() and len(load_record(partial()).rows) >= 3):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = load_record(partial())
    assert not kept.finished and 3 <= len(kept.rows) < 9
    reproduce("01_test_time", "smoke", out=tmp_path)
    record = find_record("01_test_time", "smoke", results=tmp_path / "results")
    assert record.rows[: len(kept.rows)] == kept.rows and len(record.rows) == 9          # seconds included: not measured again


def test_failure_names_the_notebook(tmp_path, monkeypatch):
    source = tmp_path / "nbs" / "reproduce"
    source.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell("preset = ''", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell("1 / 0")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}})
    nbformat.write(notebook, source / "02_broken.ipynb")
    monkeypatch.setattr("diml_nb.reproduce.REPOSITORY", tmp_path)
    with pytest.raises(RuntimeError, match="02_broken.smoke.ipynb"):
        reproduce("02_broken", "smoke", out=tmp_path / "out")
    assert "ZeroDivisionError" in (tmp_path / "out" / "02_broken.smoke.ipynb").read_text()


@pytest.mark.parametrize("experiment", ("01_test_time", "02_training", "03_data_sets", "04_explanations"))
def test_committed_record_is_of_this_code(experiment):
    "The records of the embedded set, and README's table, are what the present code makes."
    sets = {"03_data_sets": ("emoji", "emoji_scenes"), "04_explanations": ("emoji_scenes",)}.get(experiment)
    for record in find_records(experiment, "quick"):
        assert record.inputs["code"] == code_now(experiment), "run `make reproduce readme` and commit the record"
        assert record.inputs["data"] == ({name: SOURCES[name].hash for name in sets} if sets else get_dataset("emoji").hash)
        if experiment == "01_test_time": assert readme_table(record) in (REPOSITORY / "README.md").read_text()
        if experiment != "02_training": assert len(table(record)) == len([r for r in record.rows if "precision_at_1" in r["result"]])


def test_the_record_of_the_data_sets():
    "All that packages hold, as published, and the table of README is made from it."
    record = find_record("03_data_sets", "full")
    assert record.inputs["data"] == {name: SOURCES[name].hash for name in ("emoji", "emoji_vendors", "emoji_scenes", "stamp_scenes")}
    assert all(row["result"]["as_published"] for row in record.rows if "facts" in row["config"])
    assert readme_table(record) in (REPOSITORY / "README.md").read_text()


def test_data_sets_smoke_run(tmp_path):
    out = reproduce("03_data_sets", "smoke", out=tmp_path)
    record = find_record("03_data_sets", "smoke", results=tmp_path / "results")
    assert [row["config"]["dataset"] for row in record.rows if "method" in row["config"]] == ["emoji"] * 3 + ["emoji_scenes"] * 3
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"03_data_sets-{name}.png" for name in ("smoke", "emoji", "emoji_scenes", "correspondences")} and out.exists()


def test_explanations_smoke_run(tmp_path):
    "Every flow and every order is measured, and the truth bounds them: no plan is right everywhere, hiding everything leaves the same for all."
    out = reproduce("04_explanations", "smoke", out=tmp_path)
    record = find_record("04_explanations", "smoke", results=tmp_path / "results")
    flows, orders = ([row for row in record.rows if kind in row["config"]] for kind in ("flow", "order"))
    assert len(flows) == 12 and len(orders) == 8 * 3 and [list(t)[2] for t in tables(record)] == ["flow", "order"]
    nearest = next(r["result"] for r in flows if r["config"]["flow"] == "nearest cell")
    assert nearest["right_mass"] == nearest["right_partner"] and nearest["gain_over_nearest_right_mass"] == [0, 0, 0]
    for score in {row["config"]["score"] for row in orders}:
        ends = {(r["result"][k][0], r["result"][k][-1]) for r in orders if r["config"]["score"] == score for k in ("most_first_k", "least_first_k", "by_lot_k")}
        assert len(ends) == 1 and next(iter(ends))[0] == 1
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"04_explanations-{name}.png" for name in ("flows-smoke", "hidden-smoke", "curves", "field", "pair", "truth")} and out.exists()


def test_training_smoke_run(tmp_path):
    "02_training from the command line: two small networks are trained and tested, a second call measures nothing, --fresh everything."
    command = [DIML, "reproduce", "02_training", "--preset", "smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    first = find_record("02_training", "smoke", results=tmp_path / "results")
    tested = [row["config"] for row in first.rows if "by_class" in row["result"]]
    assert tested == [dict(loss=loss, trained=trained, method=method) for loss, trained in (("(no head)", "untrained"), ("multi_similarity", "baseline"), ("multi_similarity", "DIML"))
                      for method in ("cosine", "DIML")]
    assert len(list((tmp_path / "figures").glob("02_training-*.png"))) == 2
    subprocess.run(command, check=True, capture_output=True)
    again = find_record("02_training", "smoke", results=tmp_path / "results")
    assert again.rows == first.rows
    model = next((tmp_path / "results" / "runs" / "02_training").rglob("model.safetensors"))
    before = model.stat().st_mtime_ns
    subprocess.run([*command, "--fresh"], check=True, capture_output=True)
    assert model.stat().st_mtime_ns > before


def test_the_tables_of_explanations_are_of_their_record():
    record = find_record("04_explanations", "full")
    assert record.inputs["code"] == code_now("04_explanations"), "diml reproduce 04_explanations --preset full; make readme"
    assert record.inputs["data"] == {name: SOURCES[name].hash for name in ("emoji_scenes", "stamp_scenes")}
    flows, _ = tables(record)
    rows = [" | ".join(line) for line in flows[["right_mass", "right_partner", "on_object"]].values.tolist()]
    assert all(row in (REPOSITORY / "README.md").read_text() for row in rows)


def test_record_is_small_and_json():
    for path in (REPOSITORY / "data" / "results").rglob("*.json"):
        assert path.stat().st_size < 1_000_000 and json.loads(path.read_text())["finished"]
