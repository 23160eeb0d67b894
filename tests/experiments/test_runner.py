"Papermill runs, in a process of their own where one is killed: resumed runs, failures, tables."

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.datasets.registry import DATASETS
from diml_nb.experiments.notebook import experiments, notebook_parameters, read_cells
from diml_nb.experiments.runner import find_record, run_experiment
from diml_nb.experiments.tables import readme_table, result_tables
from diml_nb.records.record import load_record
from diml_nb.retrieval.metrics import METRIC_NAMES

DIML = str(Path(sys.executable).with_name("diml"))
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@pytest.mark.parametrize("name", experiments())
def test_one_parameters_cell_of_plain_values(name):
    cells = nbformat.read(experiments()[name], 4).cells
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    values = notebook_parameters(name)
    assert all(isinstance(value, (str, int, float, bool)) for value in values.values())
    assert {"preset", "fresh", "results", "figures"} <= set(values)


@pytest.mark.parametrize("name", experiments())
def test_each_parameter_has_an_effect_and_keeps_its_value(name):
    """A parameter is read by some cell, and no other cell gives its name to something else: the
    settings can be asked for again."""
    cells = [
        cell
        for cell in read_cells(name)
        if cell["cell_type"] == "code" and "parameters" not in cell["tags"]
    ]
    trees = [ast.parse(cell["source"]) for cell in cells]
    names = [x for tree in trees for x in ast.walk(tree) if isinstance(x, ast.Name)]
    assert set(notebook_parameters(name)) <= {x.id for x in names if isinstance(x.ctx, ast.Load)}
    inner = {
        x for tree in trees for f in ast.walk(tree) if isinstance(f, SCOPES) for x in ast.walk(f)
    }
    assert not set(notebook_parameters(name)) & {
        x.id for x in names if isinstance(x.ctx, ast.Store) and x not in inner
    }


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The output folder of a smoke run from the command line that was killed after a few rows and
    went on, what it printed, and its record when it was killed."""
    out = tmp_path_factory.mktemp("smoke")
    command = [
        DIML,
        "reproduce",
        "01_test_time",
        "--preset",
        "smoke",
        "--tables",
        "--out",
        str(out),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(
        command,
        start_new_session=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def partial():
        return next((out / "results" / "runs" / "01_test_time").glob("*.json"), None)

    deadline = time.monotonic() + 300
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not (partial() and len(load_record(partial()).rows) >= 3)
    ):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = load_record(partial())
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout, kept


@pytest.fixture
def smoke(killed):
    "The output folder of a smoke run from the command line, and what it printed."
    return killed[:2]


def test_smoke(smoke):
    out, printed = smoke
    record = find_record("01_test_time", "smoke", results=out / "results")
    assert record.finished
    assert "transport" in printed
    assert "best_cell" in printed
    for word in (
        "01_test_time: Does",
        "  answer",
        "  picture: ",
        "no committed record to compare with",
        "  notebook: ",
    ):
        assert word in printed
    rows = [r for r in record.rows if set(METRIC_NAMES) <= set(r["result"])]
    assert len(rows) == 41
    for row in rows:
        for name in METRIC_NAMES:
            mean, low, high = row["result"][name]
            values = row["result"]["per_query"][name]
            assert low <= mean <= high
            assert abs(mean - sum(values) / len(values)) < 1e-5
            assert (
                row["result"]["official_convention"]["r_precision"]
                <= row["result"]["r_precision"][0]
            )
    assert {p.name for p in (out / "figures").iterdir()} >= {
        "01_test_time-marginals.png",
        "01_test_time-helped.png",
    }


def test_executed_notebook_has_its_parameters(smoke):
    cells = nbformat.read(smoke[0] / "01_test_time.smoke.ipynb", 4).cells
    (injected,) = [c for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert 'preset = "smoke"' in injected.source
    assert cells.index(injected) == 1 + next(
        i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])
    )


def test_record_names_its_inputs(smoke):
    record = find_record("01_test_time", "smoke", results=smoke[0] / "results")
    assert set(record.inputs) == {"data", "weights"}
    assert all(len(x) == 64 for x in record.inputs.values())
    assert {"torch", "pillow", "timm", "safetensors", "diml_nb"} <= set(
        record.environment["packages"]
    )
    assert record.environment["processor"]
    assert "retrieval.search.search" in record.provenance["source"]
    assert record.config["seed"] == 0
    assert record.version == 2


def test_the_same_rows_to_the_last_digit(smoke, smoke_of):
    "A run elsewhere, on one thread instead of two, gives the same record."
    first = find_record("01_test_time", "smoke", results=smoke[0] / "results")
    _, second = smoke_of("01_test_time")
    assert first.hash == second.hash
    assert [(r["config"], r["result"]) for r in first.rows] == [
        (r["config"], r["result"]) for r in second.rows
    ]


def test_killed_run_goes_on(killed):
    "SIGKILL to the whole process group after a few rows; the next call keeps them and finishes."
    out, _, kept = killed
    assert not kept.finished
    assert 3 <= len(kept.rows) < 42
    record = find_record("01_test_time", "smoke", results=out / "results")
    assert record.rows[: len(kept.rows)] == kept.rows  # seconds included: not measured again
    assert len(record.rows) == 42


def test_failure_names_the_notebook(tmp_path, monkeypatch):
    source = tmp_path / "nbs" / "reproduce"
    source.mkdir(parents=True)
    cells = [
        nbformat.v4.new_code_cell("preset = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("1 / 0"),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
        },
    )
    nbformat.write(notebook, source / "02_broken.ipynb")
    monkeypatch.setattr("diml_nb.experiments.notebook.REPO_ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="02_broken.smoke.ipynb"):
        run_experiment("02_broken", "smoke", out=tmp_path / "out")
    assert "ZeroDivisionError" in (tmp_path / "out" / "02_broken.smoke.ipynb").read_text()


def test_the_results_show_the_committed_records():
    assert (
        readme_table(find_record("01_test_time", "quick")) in (REPO_ROOT / "RESULTS.md").read_text()
    )


def test_the_record_of_the_data_sets():
    "All that packages hold, as published, and the table of the results is made from it."
    record = find_record("03_data_sets", "full")
    assert record.inputs["data"] == {name: DATASETS[name].hash for name in record.config["sets"]}
    assert set(record.config["sets"]) >= {"emoji_vendors", "stamp_scenes", "grocery"}
    assert all(row["result"]["as_published"] for row in record.rows if "facts" in row["config"])
    assert readme_table(record) in (REPO_ROOT / "RESULTS.md").read_text()


def test_data_sets_smoke_run(smoke_of):
    out, record = smoke_of("03_data_sets")
    assert [row["config"]["dataset"] for row in record.rows if "method" in row["config"]] == [
        "emoji"
    ] * 3 + ["emoji_scenes"] * 3
    assert {p.name for p in (out / "figures").iterdir()} == {
        f"03_data_sets-{name}.png" for name in ("smoke", "emoji", "emoji_scenes", "correspondences")
    }


def test_explanations_smoke_run(smoke_of):
    """Every flow and every order is measured, and the truth bounds them: no plan is right
    everywhere, hiding everything leaves the same for all."""
    out, record = smoke_of("04_explanations")
    flows, orders = (
        [row for row in record.rows if kind in row["config"]] for kind in ("flow", "order")
    )
    assert len(flows) == 12
    assert len(orders) == 8 * 3 * 2
    assert [list(t)[2] for t in result_tables(record)] == ["flow", "order"]
    nearest = next(r["result"] for r in flows if r["config"]["flow"] == "nearest cell")
    assert nearest["right_mass"] == nearest["right_partner"]
    assert nearest["gain_over_nearest_right_mass"] == [0, 0, 0]
    for score, fill in {(row["config"]["score"], row["config"]["fill"]) for row in orders}:
        these = [r for r in orders if (r["config"]["score"], r["config"]["fill"]) == (score, fill)]
        ends = {
            (r["result"][k][0], r["result"][k][-1])
            for r in these
            for k in ("most_first_k", "least_first_k", "by_lot_k")
        }
        assert len(ends) == 1
        assert next(iter(ends))[0] == 1
    assert {p.name for p in (out / "figures").iterdir()} == {
        f"04_explanations-{name}.png"
        for name in ("flows-smoke", "hidden-smoke", "curves", "field", "pair", "truth")
    }


def test_training_smoke_run(smoke_of, tmp_path, diml, shared_kernel):
    """02_training: small networks are trained and tested; from the command line a second call
    measures nothing, --fresh everything."""
    folder, first = smoke_of("02_training")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    command = ["reproduce", "02_training", "--preset", "smoke", "--out", tmp_path]
    tested = [tuple(row["config"].values()) for row in first.rows if "by_class" in row["result"]]
    losses = ("margin", "multi_similarity", "proxy_anchor", "contrastive", "supcon")
    networks = [
        ("(no head)", "untrained"),
        *((loss, trained) for loss in losses for trained in ("baseline", "DIML")),
    ]
    networks += [(loss, "DIML, swapped") for loss in losses[:2]]
    assert sorted(tested) == sorted(
        (*network, method) for network in networks for method in ("cosine", "DIML")
    )
    assert len(list((tmp_path / "figures").glob("02_training-*.png"))) == 2
    assert diml(*command).returncode == 0
    again = find_record("02_training", "smoke", results=tmp_path / "results")
    assert again.rows == first.rows
    model = next((tmp_path / "results" / "runs" / "02_training").rglob("model.safetensors"))
    before = model.stat().st_mtime_ns
    assert diml(*command, "--fresh").returncode == 0
    assert model.stat().st_mtime_ns > before


def test_a_training_step_is_timed(tmp_path, diml, shared_kernel):
    "The benchmark of a step, which `quick` and `full` call, works from the notebook's folder."
    settings = [f"--param={name}" for name in ("losses=margin", "swapped=", "steps=margin")]
    run = ["reproduce", "02_training", "--preset", "smoke", "--out", tmp_path, *settings]
    assert diml(*run).returncode == 0
    record = find_record("02_training", "smoke, changed", results=tmp_path / "results")
    cost = record.find(dict(step="margin", grid=4))["result"]
    assert cost["extra_mb"]["ours"] < cost["extra_mb"]["official"]


def test_the_tables_of_explanations_are_of_their_record():
    record = find_record("04_explanations", "full")
    assert record.inputs["data"] == {
        name: DATASETS[name].hash for name in ("emoji_scenes", "stamp_scenes")
    }
    flows, _ = result_tables(record)
    rows = [
        " | ".join(line)
        for line in flows[["right_mass", "right_partner", "on_object"]].values.tolist()
    ]
    assert all(row in (REPO_ROOT / "RESULTS.md").read_text() for row in rows)


def test_record_is_small_and_json():
    "The largest have a hundred rows, each with the outcomes of all queries, 5 kB a row."
    for path in (REPO_ROOT / "data" / "results").rglob("*.json"):
        assert path.stat().st_size < 1_200_000, path
        assert path.name == "verified.json" or json.loads(path.read_text())["finished"], path


PLAIN = [sys.executable, "-m", "papermill", "-k", "python3"]


def papermill(source, target, *words, **options):
    "Plain papermill, as somebody uses it who does not know `diml`."
    done = subprocess.run(
        [*PLAIN, str(source), str(target), *words], capture_output=True, text=True, **options
    )
    return done.returncode, done.stdout + done.stderr


def test_plain_papermill_refuses_what_it_does_not_know(tmp_path):
    source = experiments()["05_losses"]
    status, said = papermill(source, tmp_path / "a.ipynb", "-p", "preset", "huge")
    assert status
    assert "preset: 05_losses has smoke, quick, full, got 'huge'" in said
    status, said = papermill(
        source, tmp_path / "b.ipynb", "-p", "preset", "smoke", "-p", "epoch", "3"
    )
    assert status
    assert "05_losses has no parameter epoch; it has preset, dataset" in said


def test_plain_papermill_leaves_the_repository_as_it_is(tmp_path):
    "Without folders for results and figures, everything goes below data/runs."
    data = tmp_path / "data"
    data.mkdir()
    (data / "emoji").symlink_to(REPO_ROOT / "data" / "emoji")
    (data / "results").mkdir()
    environment = os.environ | {"DIML_DATA": str(data)}
    status, said = papermill(
        experiments()["01_test_time"],
        tmp_path / "x.ipynb",
        "-p",
        "preset",
        "smoke",
        cwd=tmp_path,
        env=environment,
    )
    assert status == 0, said[-2000:]
    assert not list((data / "results").iterdir())
    assert len(list((data / "runs" / "smoke" / "results" / "01_test_time").glob("*.json"))) == 1


def test_a_value_is_no_file_name(tmp_path, shared_kernel):
    "A notebook of one's own that a value leads to stays where it is."
    out = tmp_path / "a" / "b" / "c"
    mine = tmp_path / "birds.ipynb"
    mine.write_text("mine")
    with pytest.raises(ValueError, match="unknown data set '../../../birds'"):
        run_experiment("02_training", "smoke", out=out, parameters=dict(dataset="../../../birds"))
    with pytest.raises(RuntimeError):
        run_experiment(
            "02_training", "smoke", out=out, parameters=dict(dataset=str(mine)), quiet=True
        )
    assert mine.read_text() == "mine"
    assert [path.parent for path in out.glob("*.ipynb")] == [out]


def test_a_name_of_digits_stays_a_text(tmp_path, monkeypatch, shared_kernel):
    "A folder called 2024, named relatively, is found from the notebook's own folder."
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for label in range(20):
        for i in range(4):
            path = Path("2024") / f"c{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (12 * label, 60 * i, 255 - 12 * label)).save(path)
    run_experiment(
        "06_ablations", "smoke", out="out", parameters=dict(dataset="2024"), quiet=True, threads=1
    )
    record = find_record("06_ablations", "smoke", results="out/results")
    assert record.config["dataset"] == str(tmp_path / "2024")


def test_changed_settings_take_no_record_s_place(smoke_of, tmp_path, diml, shared_kernel):
    folder, before = smoke_of("06_ablations")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    parameters = ["--param", "evaluate_every=2", "--param", "K=5"]
    done = diml("reproduce", "06_ablations", "--preset", "smoke", *parameters, "--out", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    changed = find_record("06_ablations", "smoke, changed", results=tmp_path / "results")
    assert find_record("06_ablations", "smoke", results=tmp_path / "results") == before
    assert (changed.config["K"], changed.config["train"]["evaluate_every"]) == (5, 2)
    assert (before.config["K"], before.config["train"]["evaluate_every"]) == (10, 1)
    assert "no committed record to compare with" in done.stdout
