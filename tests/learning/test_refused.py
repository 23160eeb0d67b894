"""What cannot work is refused before anything is computed, by the name of an option."""

import json

import pytest
import torch
from commands import run_diml
from small_runs import SMALL, copy_run, few_images

import diml_nb.learning.trainer as training
from diml_nb.datasets.registry import get_dataset
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.linear_probe import tune_probe
from diml_nb.learning.network import EmbeddingInputs
from diml_nb.learning.trained import evaluate_once
from diml_nb.learning.trainer import train
from diml_nb.viz.widgets.ranking import RetrievalExplorer


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
        train(TrainConfig(**SMALL | settings), tmp_path / "run", images=few_images())
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
    status, said = run_diml(*words)
    assert status == 2
    assert not (tmp_path / "run").exists()
    options = said.split("what would do: ")[1].split()
    assert options == ["--batch-size", "10", "--set", "validation=0"]
    assert run_diml(*words, *options, "--set", "embedding_dim=8")[0] == 0


def test_a_class_of_one_image_is_named(tmp_path, nothing_computed):
    some = few_images()
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
        train(TrainConfig(**SMALL | dict(batch_size=80)), tmp_path / "run", images=few_images())
    train(TrainConfig(**SMALL | dict(epochs=1)), tmp_path / "run", images=few_images())


def test_no_images_are_not_the_default_ones(tmp_path, nothing_computed):
    "An empty set is false in Python; it was taken for no set, and emoji for it."
    none = few_images().select([])
    with pytest.raises(ValueError, match="images: expected at least one"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=none)
    assert not list(tmp_path.iterdir())


def test_maps_of_other_images_are_refused(tmp_path):
    some = few_images(classes=4)
    inputs = EmbeddingInputs(some, training.build_backbone(TrainConfig(**SMALL)), True)
    with pytest.raises(
        ValueError, match=f"inputs: expected those of {len(few_images())} images, got {len(some)}"
    ):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few_images(), inputs=inputs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", (dict(workers=-1), dict(fresh=True, extend=True), dict(extend=True)), ids=str
)
def test_wrong_options_of_train(tmp_path, nothing_computed, options):
    with pytest.raises(ValueError, match="workers|--fresh and --resume|--resume: there is no run"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few_images(), **options)
    assert not list(tmp_path.iterdir())


def test_another_run_is_refused_before_its_maps(run, nothing_computed):
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(
        ValueError, match=r"belongs to another run \(lr: 0.001 there, 0.5 now\).*--out.*--fresh"
    ):
        train(TrainConfig(**SMALL | dict(lr=0.5)), run, images=few_images())
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_tensorboard_is_asked_for_first(tmp_path, nothing_computed, monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=few_images(), tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_a_test_set_without_positives_is_refused_first(run, nothing_computed):
    some = few_images("test")
    first = [int((some.label_n == c).nonzero()[0]) for c in some.label_n.unique()]
    with pytest.raises(
        ValueError, match="0 of 6 queries have another image of their class .*--split, --dataset"
    ):
        evaluate_once(run, images=some.select(first))
    assert not list(run.glob("test*"))


@pytest.mark.parametrize(
    "options", (dict(top_k=0), dict(max_bytes=0), dict(resamples=0), dict(max_bytes=1000)), ids=str
)
def test_wrong_options_of_an_evaluation(run, nothing_computed, options):
    with pytest.raises(ValueError, match="expected at least 1|are not enough"):
        evaluate_once(run, images=few_images("test"), **options)


def test_single_images_among_others_are_evaluated(run, tmp_path):
    """A query without a positive has no value; it was NaN, which no record can hold, after
    everything else."""
    some = few_images("test")
    alone = (some.label_n != some.label_n[0]) | (torch.arange(len(some)) == 0)
    folder = copy_run(run, tmp_path)
    record = evaluate_once(folder, images=some.select(alone), resamples=50)
    values = record.rows[0]["result"]["per_query"]["precision_at_1"]
    assert values[0] is None
    assert None not in values[1:]
    assert json.loads((folder / "test.json").read_text())["finished"]


def test_training_says_that_its_test_split_cannot_be_evaluated(make_table):
    own = make_table(("test", few_images("test", 1)))
    short = ["--epochs", "1", "--batch-size", "6", "--set", "validation=0.34"]
    with pytest.warns(
        UserWarning,
        match="the test after this training will be refused: own, test: 1 classes have a query",
    ):
        assert run_diml("train", "--dataset", own, *short, "--out", own.parent / "run")[0] == 0


def test_all_rates_of_a_probe_are_checked_before_the_first(tmp_path, monkeypatch):
    import diml_nb.learning.linear_probe as probe

    monkeypatch.setattr(probe, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="lr: expected"):
        tune_probe(tmp_path, few_images(), [1e-3, float("nan")])


def test_explorers_check_before_they_rank(monkeypatch):
    import diml_nb.viz.widgets.lists as gallery

    monkeypatch.setattr(gallery, "extract_feature_maps", lambda *_, **__: pytest.fail("computed"))
    for wrong in (
        dict(marginals="attention"),
        dict(eps=0),
        dict(grid=0),
        dict(top_k=0),
        dict(n_shown=0),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RetrievalExplorer(few_images("test"), **wrong)
