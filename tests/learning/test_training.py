"Runs that are killed, shared by two processes, or damaged; losses held to their formulas."

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import few_images, log_of

from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.losses import LOSSES, make_loss
from diml_nb.learning.trained import evaluate_once
from diml_nb.learning.trainer import load_trained, train

# trains each folder of a JSON text with its configuration
SCRIPT = """
import json, sys
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.trainer import train
from small_runs import few_images
if __name__ == "__main__":
    for folder, config in json.loads(sys.argv[1]).items():
        train(TrainConfig(**config), folder, images=few_images(classes=10))
"""
TESTS = Path(__file__).parents[1]
TWENTY_EPOCHS = CACHED_MAPS_CONFIG | dict(
    embedding_dim=32, epochs=20, evaluate_every=2, batch_size=12, lr=1e-3
)
CHANGES = (
    dict(loss="margin"),
    dict(loss="multi_similarity", structural=False),
    dict(loss="proxy_anchor"),
    dict(loss="multi_similarity", cached=False, epochs=1, evaluate_every=1, lr=1e-5),
)
# one step an epoch
ONE_STEP = TWENTY_EPOCHS | dict(
    loss="margin",
    epochs=1,
    evaluate_every=1,
    batch_size=16,
    per_class=4,
    validation=0.6,
    weight_decay=0.0,
)


def few(split="train", classes=10):
    return few_images(split, classes)


def train_by_two(configs):
    "Two processes that share each batch train folder after folder."
    script = Path(next(iter(configs))).parent / "train_few.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    configs = {str(folder): config for folder, config in configs.items()}
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *launcher, str(script), json.dumps(configs)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def train_few(folder, config):
    torch.set_num_threads(1)
    train(TrainConfig(**config), folder, images=few(classes=10))


def start(folder, config):
    "A process that trains: a copy of this one, which has imported everything."
    process = get_context("fork").Process(target=train_few, args=(folder, config))
    process.start()
    return process


def finish(folder, config):
    process = start(folder, config)
    process.join()
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """Runs of this process, and the same by two processes that share each batch, one after the
    other: (one, two) of each of `CHANGES`, and of `ONE_STEP`."""
    folder = tmp_path_factory.mktemp("processes")
    configs = [TWENTY_EPOCHS | dict(epochs=2, evaluate_every=1) | changes for changes in CHANGES]
    configs.append(ONE_STEP)
    train_by_two({folder / f"two{i}": config for i, config in enumerate(configs)})
    for i, config in enumerate(configs):
        train(TrainConfig(**config), folder / f"one{i}", images=few())
    return [(folder / f"one{i}", folder / f"two{i}") for i in range(len(configs))]


def test_a_run_killed_at_any_point_ends_with_the_same_bits(tmp_path):
    """SIGKILL, five times at arbitrary moments; weights, betas, moments, log and chosen epoch are
    those of a run left in peace."""
    config = TWENTY_EPOCHS | dict(loss="margin")
    finish(tmp_path / "whole", config)
    killed, log = tmp_path / "killed", tmp_path / "killed" / "log.jsonl"
    for kills, wanted in enumerate([1, 9, 17, 26, 40]):  # lines of the log
        process = start(killed, config)
        while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= wanted):
            time.sleep(0.002)
        assert process.is_alive(), "it ended before it was killed"
        time.sleep(0.013 * kills)  # not always right after a line
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish(killed, config)
    for name in ("checkpoint", "model"):
        whole, again = (
            load_file(folder / f"{name}.safetensors") for folder in (tmp_path / "whole", killed)
        )
        assert whole.keys() == again.keys(), name
        assert all(torch.equal(whole[k], again[k]) for k in whole), name
    assert "loss.loss.beta" in load_file(killed / "checkpoint.safetensors")
    assert log_of(killed) == log_of(tmp_path / "whole")
    assert load_trained(killed).best == load_trained(tmp_path / "whole").best
    assert not list(killed.glob(".*.partial"))  # what the killed runs left half written is gone


@pytest.mark.parametrize("i", range(len(CHANGES)), ids=lambda i: str(CHANGES[i]))
def test_two_processes_are_one(one_and_two, i):
    """Two gloo processes share each batch: the loss and gradient of every early step, and the
    metrics at the end, are those of one process."""
    changes = CHANGES[i]
    one, two = map(log_of, one_and_two[i])
    assert len(one) == len(two)
    assert [x["step"] for x in one] == [x["step"] for x in two]
    steps = [(a, b) for a, b in zip(one, two) if "loss" in a]
    # Adam turns the rounding of a gradient near zero into a step of lr: of a whole network the
    # third step differs by 1e-5 to 2e-4, compiled or plain
    cached = changes.get("cached", True)
    for i, (a, b) in enumerate(steps[: 3 if cached else 2]):
        assert abs(a["loss"] - b["loss"]) < 1e-5
        assert abs(a["gradient"] / b["gradient"] - 1) < (1e-4 if i and not cached else 1e-5)
    last = [x for x in zip(one, two) if "loss" not in x[0]][-1]
    assert all(abs(last[0][k] - last[1][k]) < 1e-6 for k in last[0])


def test_two_processes_have_the_gradient_of_one(one_and_two):
    "Adam's first moment after one step is a tenth of the gradient, entry by entry."
    one, two = (load_file(folder / "checkpoint.safetensors") for folder in one_and_two[-1])
    moments = [k for k in one if k.endswith("exp_avg")]
    assert len(moments) == 3
    assert one["optimizer.0.step"] == 1
    for k in moments:
        assert (one[k] - two[k]).abs().max() < 1e-6, k


def test_it_learns_and_is_tested_once(tmp_path):
    "Trained classes get easier; the test is kept, and belongs to these weights."
    config = TrainConfig(**TWENTY_EPOCHS | dict(validation=0.0))
    train(config, tmp_path, images=few())
    losses = [x["loss"] for x in log_of(tmp_path) if "loss" in x]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert load_trained(tmp_path).best == dict(step=config.epochs * (len(few()) // 12))
    first = evaluate_once(tmp_path, images=few("test"), top_k=20, resamples=100)
    before = (tmp_path / "test.json").stat().st_mtime_ns
    again = evaluate_once(tmp_path, images=few("test"), top_k=20, resamples=100)
    assert again.rows == first.rows
    assert (tmp_path / "test.json").stat().st_mtime_ns == before
    assert [row["config"]["method"] for row in first.rows] == ["cosine", "DIML"]


def test_two_processes_evaluate_like_one(tmp_path):
    """`diml evaluate` under torch.distributed.run: processes embed their parts into one bank, share
    the queries, and find every number of the single process."""
    lines = ["path,label,split"]
    for split in ("train", "test"):
        some = few(split, classes=12 if split == "train" else 60)
        lines += [
            f"{path},{label},{split}" for path, label in zip(some.paths, some.label_n.tolist())
        ]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    train(
        TrainConfig(
            **TWENTY_EPOCHS | dict(dataset=str(tmp_path / "own.csv"), epochs=1, validation=0.0)
        ),
        tmp_path / "run",
    )
    found = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]):
        done = subprocess.run(
            [
                sys.executable,
                *launcher,
                "-m",
                "diml_nb",
                "evaluate",
                str(tmp_path / "run"),
                "--top-k",
                "20",
            ],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        record = json.loads((tmp_path / "run" / "test.json").read_text())
        found.append((done.stdout, [(row["config"], row["result"]) for row in record["rows"]]))
        (tmp_path / "run" / "test.json").unlink()
        assert not (tmp_path / "run" / "bank").exists()
    assert found[0] == found[1]
    assert len(found[0][1][0][1]["per_query"]["precision_at_1"]) > 250


def test_an_evaluation_keeps_within_memory(tmp_path):
    "With a limit the features wait in a bank, queries come in smaller tiles, and the numbers stay."
    train(TrainConfig(**TWENTY_EPOCHS | dict(epochs=1, validation=0.0)), tmp_path, images=few())
    free = evaluate_once(tmp_path, images=few("test", 40), top_k=20, resamples=100)
    (tmp_path / "test.json").unlink()
    tight = evaluate_once(
        tmp_path, images=few("test", 40), top_k=20, resamples=100, max_bytes=8 * 10**6
    )
    assert [row["result"] for row in tight.rows] == [row["result"] for row in free.rows]
    with pytest.raises(ValueError, match="are not enough"):
        evaluate_once(tmp_path, images=few("test", 41), max_bytes=10**5)


def test_an_unfinished_run_is_not_tested(tmp_path, monkeypatch):
    """The test classes are looked at when training is over, not before; and a fresh start forgets
    what was there."""
    import diml_nb.learning.trainer as training

    kept, config = training._step, TrainConfig(**TWENTY_EPOCHS)

    def stop(state, *batch):
        if state.step == 9:
            raise KeyboardInterrupt
        return kept(state, *batch)

    monkeypatch.setattr(training, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, images=few())
    monkeypatch.undo()
    with pytest.raises(ValueError, match="stopped at step"):
        evaluate_once(tmp_path, images=few("test"))
    other = TrainConfig(**TWENTY_EPOCHS | dict(epochs=2))
    with pytest.raises(ValueError, match="epochs: 20 there, 2 now"):
        train(other, tmp_path, images=few())
    train(other, tmp_path, images=few(), fresh=True)
    assert load_trained(tmp_path).config == other


def test_weights_of_somebody_else_are_not_overwritten(tmp_path):
    "A folder with a model.safetensors that this run did not write is refused, and left as it is."
    save_file({"weight": torch.ones(3)}, tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds files of other programs"):
        train(TrainConfig(**TWENTY_EPOCHS), tmp_path, images=few())
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ("triplet_random", "margin", "multi_similarity"))
def test_a_power_of_the_distance(name):
    """PML raises the matrix to a power afterwards; pairs that were left out, and a matrix made once
    for two, must survive it."""
    torch.manual_seed(0)
    maps, label = torch.randn(12, 8, 4, 4, requires_grad=True), torch.arange(4).repeat_interleave(3)
    metric = make_loss(
        name, structural=True, num_classes=4, embedding_dim=8, distance=dict(power=2)
    )
    values = []
    for mined_alone in (False, True):
        torch.manual_seed(1)
        vectors = maps.mean((2, 3))
        if mined_alone:
            values.append(
                metric.loss(
                    maps,
                    label,
                    metric.miner(maps if name == "multi_similarity" else vectors, label),
                )
            )
        else:
            values.append(metric(maps, label))
    values[0].backward()
    assert maps.grad.isfinite().all()
    assert torch.allclose(*values, atol=1e-5)


def test_bf16_trains(tmp_path):
    "Mixed precision where the device has it; the loss itself stays in float32."
    train(TrainConfig(**TWENTY_EPOCHS | dict(precision="bf16", epochs=4)), tmp_path, images=few())
    assert all(x["loss"] < 10 for x in log_of(tmp_path) if "loss" in x)


def test_tensorboard_is_written_when_asked_for(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (it is optional)")
    train(TrainConfig(**TWENTY_EPOCHS | dict(epochs=1)), tmp_path, images=few(), tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_histogram_loss_by_hand():
    """Two classes of two: the probability that a negative pair is more similar than a positive one,
    on 65 bins."""
    torch.manual_seed(0)
    x = torch.randn(4, 8, 1, 1)
    label = torch.tensor([0, 0, 1, 1])
    unit = torch.nn.functional.normalize(x.flatten(1), dim=1)
    s, width = unit @ unit.T, 2 / 65

    def density(values):
        found = torch.zeros(67)
        for v in values.tolist():
            low = int((v + 1) // width)
            found[low + 1] += (v + 1 - low * width) / width / len(values)
            found[low] += ((low + 1) * width - 1 - v) / width / len(values)
        return found

    positive, negative = density(torch.stack([s[0, 1], s[2, 3]])), density(s[:2, 2:].flatten())
    expected = (negative[:66] * positive.cumsum(0)[:66]).sum()
    assert abs(make_loss("histogram")(x, label) - expected) < 1e-5


@pytest.mark.parametrize(
    "name", [name for name, recipe in LOSSES.items() if not isinstance(recipe.structural, str)]
)
def test_a_structural_loss_is_the_vector_loss_on_a_single_cell(name):
    """On maps of one cell there is nothing to match: transport moves everything to the only
    partner, and the loss is that of the vectors."""
    torch.manual_seed(0)
    maps, label = torch.randn(12, 16, 1, 1), torch.arange(4).repeat_interleave(3)
    unit = torch.nn.functional.normalize(maps, dim=1)
    values = []
    for structural in (False, True):
        torch.manual_seed(1)
        loss = make_loss(name, structural=structural, num_classes=4, embedding_dim=16, grid=1)
        if name in (
            "npair",
            "lifted",
        ):  # published on vectors that are not unit vectors, with a penalty on their length
            loss.loss.embedding_regularizer = None
            maps = unit
        torch.manual_seed(2)
        values.append(loss(maps, label).item())
    assert values[0] == pytest.approx(values[1], abs=2e-3), values


@pytest.mark.parametrize("fresh", (False, True))
def test_files_of_other_programs_stay(tmp_path, fresh):
    """A folder that already holds a log.jsonl or a model.safetensors of somebody else is refused,
    and left as it is."""
    (tmp_path / "log.jsonl").write_text("my own log\n")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds files of other programs under the names of a run"):
        train(TrainConfig(**TWENTY_EPOCHS | dict(epochs=1)), tmp_path, images=few(), fresh=fresh)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
