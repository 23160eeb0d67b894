"""Training, evaluation and explanation: what cannot work is refused in the first second, by the
name of an option, and leaves no file."""

import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import diml_nb.learning.trained as tested
import diml_nb.learning.trainer as training
from diml_nb._internal.paths import check_writable, data_dir
from diml_nb.cli import app
from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.registry import get_dataset
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.evaluation import LAUNCHER_VARIABLES, rank_and_world_size
from diml_nb.learning.linear_probe import tune_probe
from diml_nb.learning.network import EmbeddingInputs, concatenate_features, extract_features
from diml_nb.learning.trained import TrainedBackbone, evaluate_once
from diml_nb.learning.trainer import load_trained, train
from diml_nb.retrieval.metrics import metric_cis, retrieval_metrics
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search
from diml_nb.viz.widgets.controls import prepare_image
from diml_nb.viz.widgets.pair import PairExplorer
from diml_nb.viz.widgets.ranking import RetrievalExplorer
from diml_nb.viz.widgets.sinkhorn import SinkhornExplorer
from diml_nb.viz.widgets.steps import StepByStep

SMALL = CACHED_MAPS_CONFIG | dict(
    embedding_dim=16, epochs=2, evaluate_every=1, batch_size=8, lr=1e-3, validation=0.34
)
PAIR = [
    str(data_dir() / "emoji" / "pineapple" / f"{design}.png") for design in ("emojione", "noto")
]


def few(split="train", classes=6):
    images = get_dataset("emoji").subset(split)
    return images.select(torch.isin(images.label_n, images.label_n.unique()[:classes]))


def diml(*words):
    done = CliRunner().invoke(app, list(map(str, words)), prog_name="diml")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def nothing_computed(monkeypatch):
    "Any forward pass, and any file of maps, is a fault."

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr(training, "EmbeddingInputs", refuse)
    monkeypatch.setattr(training, "build_backbone", refuse)
    monkeypatch.setattr(tested, "load_trained", refuse)
    monkeypatch.setattr(tested, "EmbeddingInputs", refuse)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A short run on cached maps; tests do not write into it."
    folder = tmp_path_factory.mktemp("run") / "mine"
    train(TrainConfig(**SMALL), folder, images=few())
    return folder


@pytest.fixture
def table(tmp_path):
    """A CSV file of some emoji: training classes, and others for the split and the marks that a
    test gives."""

    def write(*splits, marks=None, separator=","):
        rows = [["path", "label", "split", *(["is_query", "is_gallery"] if marks else [])]]
        for split, some in (("train", few()), *splits):
            for n, picture in enumerate(some.paths):
                row = [str(picture), picture.parent.name, split]
                rows.append(row + (list(marks(n)) if marks else []))
        (tmp_path / "own.csv").write_text("\n".join(separator.join(row) for row in rows))
        return tmp_path / "own.csv"

    return write


# checks come before the costly, lasting step


@pytest.mark.parametrize(
    "settings,message",
    [
        (dict(batch_size=64), "batch_size: 64 with 2 of each class needs 32 classes, there are 4"),
        (dict(validation=0.01), "validation: 0.01 of 6 classes"),
        (
            dict(per_class=7, batch_size=14),
            "per_class: 7 images of each class are drawn, 4 of 4 classes have fewer: ",
        ),
        (dict(loss="snr"), "loss: snr cannot be structural .* --plain"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path, nothing_computed, settings, message
):
    with pytest.raises(ValueError, match=message):
        train(TrainConfig(**SMALL | settings), tmp_path / "run", images=few())
    assert not list(tmp_path.iterdir())


def test_the_settings_that_are_proposed_train(tmp_path):
    "A set of ten classes: one try, one sentence, and its options work."
    some = get_dataset("emoji")
    some = some.select(torch.isin(some.label_n, some.label_n.unique()[:10]))
    half = [
        "train" if n < 5 else "test" for n in some.label_n.unique(return_inverse=True)[1].tolist()
    ]
    lines = [f"{p},{p.parent.name},{s}" for p, s in zip(some.paths, half)]
    (tmp_path / "ten.csv").write_text("path,label,split\n" + "\n".join(lines))
    words = ["train", "--dataset", tmp_path / "ten.csv", "--out", tmp_path / "run", "--epochs", "1"]
    status, said = diml(*words)
    assert status == 2
    assert not (tmp_path / "run").exists()
    options = said.split("what would do: ")[1].split()
    assert options == ["--batch-size", "10", "--set", "validation=0"]
    assert diml(*words, *options, "--set", "embedding_dim=8")[0] == 0


def test_a_class_of_one_image_is_named(tmp_path, nothing_computed):
    some = few()
    alone = some.label_n[0]
    keep = (some.label_n != alone) | (torch.arange(len(some)) == 0)
    with pytest.raises(
        ValueError,
        match=(
            f"per_class: .*1 of 6 classes have fewer: {some.classes[alone]}; leave these"
            " classes out"
        ),
    ):
        train(
            TrainConfig(**SMALL | dict(validation=0.0)), tmp_path / "run", images=some.select(keep)
        )


def test_a_refused_run_does_not_stand_in_the_way(tmp_path):
    "The corrected run goes into the same folder."
    with pytest.raises(ValueError, match="batch_size"):
        train(TrainConfig(**SMALL | dict(batch_size=80)), tmp_path / "run", images=few())
    train(TrainConfig(**SMALL | dict(epochs=1)), tmp_path / "run", images=few())


def test_no_images_are_not_the_default_ones(tmp_path, nothing_computed):
    "An empty set is false in Python; it was taken for no set, and emoji for it."
    none = few().select([])
    with pytest.raises(ValueError, match="images: expected at least one"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=none)
    assert not list(tmp_path.iterdir())


def test_maps_of_other_images_are_refused(tmp_path):
    some = few(classes=4)
    inputs = EmbeddingInputs(some, training.build_backbone(TrainConfig(**SMALL)), True)
    with pytest.raises(
        ValueError, match=f"inputs: expected those of {len(few())} images, got {len(some)}"
    ):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few(), inputs=inputs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", (dict(workers=-1), dict(fresh=True, extend=True), dict(extend=True)), ids=str
)
def test_wrong_options_of_fit(tmp_path, nothing_computed, options):
    with pytest.raises(ValueError, match="workers|--fresh and --resume|--resume: there is no run"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few(), **options)
    assert not list(tmp_path.iterdir())


def test_another_run_is_refused_before_its_maps(run, nothing_computed):
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(
        ValueError, match=r"belongs to another run \(lr: 0.001 there, 0.5 now\).*--out.*--fresh"
    ):
        train(TrainConfig(**SMALL | dict(lr=0.5)), run, images=few())
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_tensorboard_is_asked_for_first(tmp_path, nothing_computed, monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few(), tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_a_test_set_without_positives_is_refused_first(run, nothing_computed):
    some = few("test")
    first = [int((some.label_n == c).nonzero()[0]) for c in some.label_n.unique()]
    with pytest.raises(
        ValueError, match="0 of 6 queries have another image of their class .*--split, --dataset"
    ):
        evaluate_once(run, images=some.select(first))
    assert not list(run.glob("test*"))


@pytest.mark.parametrize(
    "options", (dict(top_k=0), dict(memory=0), dict(resamples=0), dict(memory=1000)), ids=str
)
def test_wrong_options_of_an_evaluation(run, nothing_computed, options):
    with pytest.raises(ValueError, match="expected at least 1|are not enough"):
        evaluate_once(run, images=few("test"), **options)


def test_single_images_among_others_are_evaluated(run, tmp_path):
    """A query without a positive has no value; it was NaN, which no record can hold, after
    everything else."""
    some = few("test")
    alone = (some.label_n != some.label_n[0]) | (torch.arange(len(some)) == 0)
    folder = copy_of(run, tmp_path)
    record = evaluate_once(folder, images=some.select(alone), resamples=50)
    values = record.rows[0]["result"]["per_query"]["precision_at_1"]
    assert values[0] is None
    assert None not in values[1:]
    assert json.loads((folder / "test.json").read_text())["finished"]


def test_training_says_that_its_test_split_cannot_be_evaluated(table):
    own, short = (
        table(("test", few("test", 1))),
        ["--epochs", "1", "--batch-size", "6", "--set", "validation=0.34"],
    )
    with pytest.warns(
        UserWarning,
        match="the test after this training will be refused: own, test: 1 classes have a query",
    ):
        assert diml("train", "--dataset", own, *short, "--out", own.parent / "run")[0] == 0


def copy_of(run, folder):
    return Path(shutil.copytree(run, folder / "copy"))


def test_all_rates_of_a_probe_are_checked_before_the_first(tmp_path, monkeypatch):
    import diml_nb.learning.linear_probe as probe

    monkeypatch.setattr(probe, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="lr: expected"):
        tune_probe(tmp_path, few(), [1e-3, float("nan")])


def test_explorers_check_before_they_rank(monkeypatch):
    import diml_nb.viz.widgets.ranking as gallery

    monkeypatch.setattr(gallery, "extract_feature_maps", lambda *_, **__: pytest.fail("computed"))
    for wrong in (
        dict(marginals="attention"),
        dict(eps=0),
        dict(grid=0),
        dict(top_k=0),
        dict(places=0),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RetrievalExplorer(few("test"), **wrong)


# the trained network


def test_a_run_is_a_backbone(run):
    "Its maps are those that are evaluated, but for the float16 of the cache."
    own, trained = TrainedBackbone(run), load_trained(run)
    seen = prepare_image(PAIR[0], own)
    maps = EmbeddingInputs(
        ImageDataset("one", (Path(PAIR[0]),), torch.tensor([0]), ("a",), ("test",)),
        trained.backbone,
        True,
    ).maps.float()
    assert torch.allclose(seen.map_bchw, trained.network(maps), atol=0.02)
    assert "efficientnet_lite0, trained on emoji by multi_similarity + DIML" in own.name
    assert "run mine" in own.name


def test_an_end_to_end_run_is_explained_as_it_is_evaluated(tmp_path):
    """The published test keeps the centre; so does the explanation, and training pictures are
    cropped once."""
    config = TrainConfig(
        backbone="efficientnet_lite0",
        pretrained=False,
        image_size=64,
        loss="multi_similarity",
        embedding_dim=8,
        epochs=1,
        batch_size=8,
        validation=0.0,
    )
    train(config, tmp_path, images=few(classes=4))
    own, trained = TrainedBackbone(tmp_path), load_trained(tmp_path)
    images = few(classes=1)
    inputs = EmbeddingInputs(images, trained.backbone, cached=False).__getitems__(
        [(None, 0), (7, 0)]
    )
    picture = prepare_image(images.paths[0], own)
    assert torch.equal(picture.ready_chw, inputs[0])
    assert torch.equal(picture.map_bchw, trained.network(inputs[:1]))
    torch.manual_seed(7)
    from diml_nb.features.images import load_image

    assert torch.equal(own.augment(load_image(images.paths[0])), inputs[1])


def test_explorers_take_a_run_and_say_so(run, tmp_path):
    for explorer in (
        PairExplorer(*PAIR, run=run),
        SinkhornExplorer(*PAIR, run=run),
        StepByStep(*PAIR, run=run),
    ):
        assert "run mine" in explorer.network
        assert "run mine" in explorer.save("picture.svg", tmp_path).read_text()
    gallery = RetrievalExplorer(few("test", 2), run=run, top_k=5)
    assert gallery.state["grid"] == 4
    assert gallery.ranked.maps.map_bchw.shape[1] == 16
    assert "run mine" in gallery.pair.network
    with pytest.raises(ValueError, match="give no backbone beside it"):
        PairExplorer(*PAIR, run=run, backbone=TrainedBackbone(run))


def test_the_installed_network_is_named_too(tmp_path):
    page = PairExplorer(*PAIR).save("pair.html", tmp_path).read_text()
    assert "network: efficientnet_lite0" in page


def test_diml_explain_takes_a_run(run, tmp_path):
    from diml_nb.features.grid import grid_features
    from diml_nb.ot.matching import match

    status, said = diml("explain", *PAIR, "--run", run, "-o", tmp_path / "pair.Html")
    own = TrainedBackbone(run)
    found = match(*(grid_features(prepare_image(path, own).map_bchw, grid=4) for path in PAIR))
    assert status == 0
    assert f"network: {own.name}" in said
    assert f"{found.similarity_b.item():.4f}" in said
    assert "run mine" in (tmp_path / "pair.Html").read_text()


# another data set, split, protocol


def metrics_of(run, queries, gallery, own_q=None, top_k=100):
    "By the library alone."
    trained = load_trained(run)
    q, g = (
        concatenate_features(
            extract_features(
                trained.network,
                EmbeddingInputs(x, trained.backbone, True),
                torch.arange(len(x)),
                grid=4,
            )
        )
        for x in (queries, gallery)
    )
    lists = search(q, g, positions=own_q)
    both = lists, rerank(lists, q, g, top_k=top_k)
    found = [retrieval_metrics(x, queries.label_n, gallery.label_n) for x in both]
    return [
        metric_cis(x.per_query, found[0].per_query, queries.label_n, resamples=50, seed=0)
        for x in found
    ]


def intervals_of(record):
    return [{k: v for k, v in row["result"].items() if k != "per_query"} for row in record.rows]


def close(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            assert one[name] == pytest.approx(two[name], abs=1e-9)
    return True


def test_another_data_set(run, tmp_path, table):
    folder, own = copy_of(run, tmp_path), table(("test", few("test", 8)))
    asked = get_dataset(str(own)).subset("test")
    evaluate_once(folder, images=few("test", 4), resamples=50)
    kept = (folder / "test.json").read_bytes()
    record = evaluate_once(folder, images=get_dataset(str(own)), resamples=50)
    assert close(intervals_of(record), metrics_of(run, asked, asked, torch.arange(len(asked))))
    assert (folder / "test.json").read_bytes() == kept
    assert len(list(folder.glob("test-*.json"))) == 1
    status, said = diml("evaluate", folder, "--dataset", own)
    assert status == 0
    assert said.startswith(f"own, test: {len(asked)} queries")


def test_a_split_by_name(run, tmp_path, table):
    folder, own = (
        copy_of(run, tmp_path),
        get_dataset(
            str(table(("val", halves(few("test", 8))[0]), ("test", halves(few("test", 8))[1])))
        ),
    )
    record = evaluate_once(folder, images=own, split="validation", resamples=50)
    asked = own.subset("val")
    assert close(intervals_of(record), metrics_of(run, asked, asked, torch.arange(len(asked))))
    for wrong in ("vla", "val:vla", "val:val:val", ":"):
        with pytest.raises(
            ValueError, match=f"split: own has train, val, test; expected .* got {wrong!r}"
        ):
            evaluate_once(folder, images=own, split=wrong)


def halves(some):
    first = torch.tensor([n % 2 == 0 for n in range(len(some))])
    return some.select(first), some.select(~first)


@pytest.mark.parametrize("split", (None, "query:gallery", "gallery:query"))
def test_queries_and_gallery_by_split(run, tmp_path, table, split):
    folder, (q, g) = copy_of(run, tmp_path), halves(few("test", 8))
    own = get_dataset(str(table(("query", q), ("gallery", g))))
    record = evaluate_once(folder, images=own, split=split, resamples=50)
    names = (split or "query:gallery").split(":")
    assert close(intervals_of(record), metrics_of(run, *map(own.subset, names)))
    assert record.config["protocol"] == f"own, {split or 'query:gallery'}"


def test_queries_and_gallery_by_folders(run, tmp_path):
    q, g = halves(few("test", 6))
    for split, some in (("train", few(classes=4)), ("query", q), ("gallery", g)):
        for path in some.paths:
            place = tmp_path / "set" / split / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    own, folder = get_dataset(str(tmp_path / "set")), copy_of(run, tmp_path)
    record = evaluate_once(folder, images=own, resamples=50)
    assert close(intervals_of(record), metrics_of(run, own.subset("query"), own.subset("gallery")))
    assert diml("evaluate", folder, "--dataset", tmp_path / "set")[1].startswith(
        f"set, query:gallery: {len(q)} queries"
    )


def test_queries_and_gallery_by_columns(run, tmp_path, table):
    "Some queries are in the gallery too, and left out of their own lists; the others are not."
    some = few("test", 8)

    def marks(n):
        return ("True" if n % 3 else "False", "false" if n % 4 == 1 else "1")

    own = get_dataset(
        str(table(("validation", some), marks=marks))
    )  # as neighbouring libraries name it; it is the test
    val = own.subset("test")
    asked = torch.tensor([t == "True" for t in val.metadata["is_query"]]).nonzero().flatten()
    shown = torch.tensor([t == "1" for t in val.metadata["is_gallery"]]).nonzero().flatten()
    trained, record = (
        load_trained(run),
        evaluate_once(copy_of(run, tmp_path), images=own, resamples=50),
    )
    x = concatenate_features(
        extract_features(
            trained.network,
            EmbeddingInputs(val, trained.backbone, True),
            torch.arange(len(val)),
            grid=4,
        )
    )
    expected = []
    for n in asked.tolist():
        others = shown[shown != n]  # the gallery of this query, without itself
        lists = search(x[n], x[others])
        expected.append(
            retrieval_metrics(lists, val.label_n[[n]], val.label_n[others])[
                "mean_average_precision_at_r"
            ]
        )
    found = record.rows[0]["result"]["per_query"]["mean_average_precision_at_r"]
    assert found == pytest.approx(expected, abs=2e-6)
    assert 0 < len(set(asked.tolist()) & set(shown.tolist())) < len(asked)


@pytest.mark.parametrize(
    "marks,message",
    (
        (("maybe", "1"), "is_query: expected true or false, got 'maybe'"),
        (("0", "1"), "is_query: no image"),
    ),
    ids=str,
)
def test_marks_that_are_neither_yes_nor_no(run, table, nothing_computed, marks, message):
    own = get_dataset(str(table(("val", few("test", 4)), marks=lambda n: marks)))
    with pytest.raises(ValueError, match=message):
        evaluate_once(run, images=own)


# more epochs


def bits(folder, name):
    return load_file(folder / f"{name}.safetensors")


def log_of(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (folder / "log.jsonl").read_text().splitlines()
    ]


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
    images = few()
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
        one, two = (bits(tmp_path / run, name) for run in ("long", "longer"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
    assert load_trained(tmp_path / "long")[2:] == load_trained(tmp_path / "longer")[2:]
    assert log_of(tmp_path / "long") == log_of(tmp_path / "longer")


def test_a_longer_run_can_be_killed(tmp_path, monkeypatch):
    "Killed on the way to more epochs, the same command goes on; the shorter run it is no more."
    short, images, kept = TrainConfig(**SMALL), few(), training._step
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
        evaluate_once(tmp_path / "longer", images=few("test"))
    with pytest.raises(ValueError, match="epochs: this run has 5, expected more, got 3"):
        train(replace(short, epochs=3), tmp_path / "longer", images=images, extend=True)
    train(long, tmp_path / "longer", images=images, extend=True)
    assert all(
        torch.equal(x, bits(tmp_path / "longer", "checkpoint")[k])
        for k, x in bits(tmp_path / "long", "checkpoint").items()
    )


def test_the_command_goes_on_with_the_settings_of_the_run(tmp_path, table):
    "Of all settings only the epochs are given again."
    common = [
        "--dataset",
        table(("test", few("test"))),
        "--loss",
        "margin",
        "--batch-size",
        "8",
        "--set",
        "validation=0.34",
        "--set",
        "embedding_dim=8",
    ]
    assert diml("train", *common, "--epochs", "2", "--out", tmp_path / "run")[0] == 0
    assert diml("train", *common, "--epochs", "4", "--out", tmp_path / "whole")[0] == 0
    assert diml("train", "--resume", "--epochs", "4", "--out", tmp_path / "run")[0] == 0
    assert asdict(load_trained(tmp_path / "run").config) == asdict(
        load_trained(tmp_path / "whole").config
    )
    assert all(
        torch.equal(x, bits(tmp_path / "run", "checkpoint")[k])
        for k, x in bits(tmp_path / "whole", "checkpoint").items()
    )
    for words, message in (
        (["--lr", "1"], "lr: "),
        (["--end-to-end"], "--end-to-end: a run that goes on keeps its settings"),
        (["--fresh"], "--fresh and --resume"),
        (["--epochs", "3"], "expected more"),
    ):
        status, said = diml("train", "--resume", "--epochs", "6", "--out", tmp_path / "run", *words)
        assert status == 2
        assert message in said
    assert diml("train", "--resume", "--epochs", "6")[0] == 2
    assert diml("train", "--resume", "--out", tmp_path / "none")[0] == 2


# a half-read environment


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
        assert rank_and_world_size() == (0, 1)
    if left.keys() & {"RANK", "WORLD_SIZE"}:
        assert all(name in str(said[0].message) for name in LAUNCHER_VARIABLES)
    warnings.simplefilter("ignore")
    train(TrainConfig(**SMALL), tmp_path / "run", images=few())
    assert all(
        torch.equal(x, bits(tmp_path / "run", "model")[k]) for k, x in bits(run, "model").items()
    )
    record = evaluate_once(tmp_path / "run", images=few("test"), resamples=50)
    assert len(record.rows[0]["result"]["per_query"]["precision_at_1"]) == len(few("test"))


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


def test_the_command_speaks_where_a_rank_is_left(monkeypatch, tmp_path, table):
    monkeypatch.setenv("RANK", "2")
    with pytest.warns(UserWarning, match="RANK=2 is set, but not WORLD_SIZE"):
        status, said = diml(
            "train",
            "--dataset",
            table(("test", few("test"))),
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
        rank_and_world_size()


def test_settings_of_another_launcher_do_not_reach_training(monkeypatch, tmp_path, run):
    "Eight accumulated steps would be an eighth of each gradient."
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    train(TrainConfig(**SMALL), tmp_path / "run", images=few())
    assert all(
        torch.equal(x, bits(tmp_path / "run", "model")[k]) for k, x in bits(run, "model").items()
    )


# options without effect, values that do not fit


@pytest.mark.parametrize(
    "words,message",
    [
        (
            ["train", "--set", "proxies=vector"],
            "proxies=vector: only a structural loss with proxies",
        ),
        (
            ["train", "--loss", "proxy_anchor", "--plain", "--set", "proxies=vector"],
            "not proxy_anchor with --plain",
        ),
        (["train", "--set", "loss_lr=1"], "multi_similarity has no betas or proxies"),
        (["train", "--workers", "2"], "--workers: a head on cached maps"),
        (["train", "--plain", "--set", "swap_marginals=true"], "swap_marginals"),
        (["train", "--epochs", "3", "--set", "epochs=4"], "epochs: it is given twice"),
        (["train", "--set", "grid=3", "--set", "grid=4"], "grid is given twice, as 3 and as 4"),
        (["verify", "--pinned", "--rows", "4"], "--rows: it draws rows"),
        (["verify", "--pin", "--dataset", "emoji"], "--dataset: it draws rows"),
        (["verify", "--pin", "--pinned"], "--pin and --pinned"),
        (
            ["explain", *PAIR, "--run", "x", "--backbone", "timm/resnet18"],
            "--backbone: the network is that of --run",
        ),
        (["explain", *PAIR, "-o", "x.HTML", "--dark"], "--dark: a page is light or dark"),
        (
            ["data", "fetch", "emoji_scenes", "--archives", "."],
            "--archives: emoji_scenes is made without",
        ),
        (["train", "--lr", "nan"], "--lr nan: expected a finite number"),
        (["train", "--lr", "inf"], "--lr inf: expected a finite number"),
        (["train", "--lr", "-1"], "--lr -1.0: expected at least 0"),
        (["train", "--epochs", "0"], "--epochs 0: expected at least 1"),
        (["train", "--loss", "hinge"], "--loss hinge: expected one of angular"),
        (["train", "--set", "grid=seven"], "--set grid=seven: expected int"),
        (["train", "--set", "backbone=timm/resnet1"], "timm has no network 'resnet1'"),
        (["train", "--set", "backbone=vgg"], "unknown backbone 'vgg'"),
        (["train", "--dataset", "birds"], "unknown data set 'birds'"),
        (["train", "--dataset", "2024"], "unknown data set '2024'"),
        (["train", "--out", "/dev/null/run"], "/dev/null is a file, expected a folder"),
        (["train", "--out", "/proc/run"], "/proc/run: nothing can be written in /proc"),
        (
            [
                "train",
                "--set",
                "backbone=timm/vit_tiny_patch16_224",
                "--set",
                "image_size=128",
                "--set",
                "pretrained=false",
            ],
            "timm/vit_tiny_patch16_224: the network does not take images of shape (1, 3, 128, 128)",
        ),
        (["evaluate", "nowhere"], "no trained network in nowhere"),
        (["explain", PAIR[0], "nowhere.png"], "cannot read the image nowhere.png"),
        (["explain", *PAIR, "--eps", "0"], "eps > 0"),
        (["explain", *PAIR, "--grid", "0"], "grid: expected"),
        (["explain", *PAIR, "--marginals", "none"], "marginals: expected one of"),
        (
            ["explain", *PAIR, "-o", "flows.jpg"],
            "expected a suffix .svg, .pdf, .png or .html, got 'flows.jpg'",
        ),
        (["explain", *PAIR, "-o", "/dev/null/x.png"], "/dev/null is a file"),
        (["explain", *PAIR, "-o", PAIR[0]], "is one of the two images"),
        (["explore", "--run", "nowhere"], "no trained network in nowhere"),
        (
            ["data", "show", "emoji", "--out", "sheet.gif"],
            "--out: expected a file .png or .jpg, got sheet.gif",
        ),
    ],
    ids=lambda x: " ".join(x[:4]) if isinstance(x, list) else "",
)
def test_one_sentence_status_two_and_no_file(tmp_path, monkeypatch, words, message):
    import diml_nb.viz.widgets.controls as controls

    for module, name in ((training, "EmbeddingInputs"), (controls, "compute_map")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if words[0] == "train" and "--out" not in words:
        words = [*words, "--out", tmp_path / "run"]
    status, said = diml(*words)
    assert status == 2
    assert message in said
    assert said.count("\n") == 1
    assert not list((tmp_path / "here").iterdir())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ("pair.PNG", "pair.Svg", "pair.PDF", "pair.HTML"))
def test_the_case_of_a_suffix_does_not_matter(tmp_path, name):
    status, _ = diml("explain", *PAIR, "-o", tmp_path / name)
    explorer = PairExplorer(*PAIR).save(f"explorer-{name}", tmp_path)
    beginning = dict(png=b"\x89PNG", svg=b"<?xml", pdf=b"%PDF", html=b"<!doctype html>")[
        name.partition(".")[2].lower()
    ]
    assert status == 0
    assert all(path.read_bytes().startswith(beginning) for path in (tmp_path / name, explorer))


@pytest.mark.parametrize("where", ("~", "relative"))
def test_paths_arrive_whole(tmp_path, table, monkeypatch, where):
    """`~` behind a sign that the shell does not read, and a relative path that is found again from
    another folder."""
    own = table(("test", few("test")))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    own.rename(tmp_path / "2024" / "images.csv")
    here = "~/" if where == "~" else ""
    assert (
        diml(
            "train",
            f"--dataset={here}2024",
            "--epochs=1",
            "--batch-size=8",
            "--set",
            "validation=0.34",
            f"--out={here}run",
        )[0]
        == 0
    )
    monkeypatch.chdir("/")
    assert load_trained(tmp_path / "run").config.dataset == str(tmp_path / "2024")
    assert not Path("/run/model.safetensors").exists()
    assert diml("evaluate", tmp_path / "run")[0] == 0


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(tmp_path):
    """The checkpoint before stays, no half file is left, and with room the run ends as if nothing
    had been."""
    config, images = TrainConfig(**SMALL | dict(embedding_dim=128)), few()
    train(config, tmp_path / "whole", images=images)
    train(replace(config, epochs=1), tmp_path / "run", images=images)
    before = bits(tmp_path / "run", "checkpoint")
    size = (tmp_path / "run" / "checkpoint.safetensors").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1]))
    try:
        with pytest.raises(
            OSError,
            match=(
                "checkpoint.safetensors could not be written .*what was there before is untouched"
            ),
        ):
            train(config, tmp_path / "run", images=images, extend=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(torch.equal(x, before[k]) for k, x in bits(tmp_path / "run", "checkpoint").items())
    assert not list((tmp_path / "run").glob(".*"))
    train(config, tmp_path / "run", images=images, extend=True)
    assert all(
        torch.equal(x, bits(tmp_path / "run", "checkpoint")[k])
        for k, x in bits(tmp_path / "whole", "checkpoint").items()
    )


def test_a_log_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    kept = training._step

    def full(state, *batch):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, ((tmp_path / "log.jsonl").stat().st_size, limits[1])
        )
        return kept(state, *batch)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(training, "_step", full)
    try:
        with pytest.raises(
            OSError, match="log.jsonl could not be written .*the same command goes on"
        ):
            train(TrainConfig(**SMALL), tmp_path, images=few())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_place_that_is_not_there_yet_can_be_written(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words,message",
    (
        (["--device", "cuda"], "--device"),
        (["--out", "/dev/null/x"], "/dev/null is a file"),
        (["--only", "search"], "--only"),
        (["--folder", "/nowhere"], "--folder"),
        (["--threads", "0"], "--threads"),
        (["--folder", "/tmp", "--only", "training"], "--folder: the bank alone"),
    ),
    ids=str,
)
def test_the_benchmark_refuses_first(words, message, monkeypatch, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["bench", "--preset", "smoke", *words])
    from bench import suite

    monkeypatch.setattr(suite, "measure_all", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as stop:
        suite.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_images_are_read_after_their_labels_are_checked(tmp_path, monkeypatch):
    "A batch that cannot be formed is refused before a picture of one's own set is opened."
    photos = tmp_path / "photos"
    for label in "abcdef":
        for n in range(3):
            (photos / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (80 * n, 9, 9)).save(photos / label / f"{n}.png")
    (photos / "a" / "0.png").write_bytes(b"no picture")
    read = []
    monkeypatch.setattr(training, "check_images", lambda paths: read.extend(paths))
    with pytest.raises(ValueError, match="batch_size"):
        train(TrainConfig(**CACHED_MAPS_CONFIG | dict(dataset=str(photos))), tmp_path / "run")
    assert not read
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    possible = dict(dataset=str(photos), batch_size=4, validation=0.0)
    with pytest.raises(ValueError, match="0.png"):
        train(TrainConfig(**CACHED_MAPS_CONFIG | possible), tmp_path / "run")
    assert not (tmp_path / "run").exists()
