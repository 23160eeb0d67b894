"""Another data set, another split, queries and gallery apart."""

from dataclasses import replace

import pytest
import torch
from commands import run_diml
from small_runs import SMALL, copy_run, few_images

from diml_nb.datasets.registry import get_dataset
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.network import EmbeddingInputs, concatenate_features, extract_features
from diml_nb.learning.sampling import split_classes
from diml_nb.learning.trained import evaluate_once
from diml_nb.learning.trainer import load_trained, train
from diml_nb.retrieval.metrics import metric_cis, retrieval_metrics
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search


def metrics_of(run, queries, gallery, query_position_q=None, top_k=100):
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
    lists = search(q, g, query_positions=query_position_q)
    both = lists, rerank(lists, q, g, top_k=top_k)
    found = [retrieval_metrics(x, queries.label_n, gallery.label_n) for x in both]
    return [
        metric_cis(x.per_query, found[0].per_query, queries.label_n, resamples=50, seed=0)
        for x in found
    ]


def intervals_of(record):
    return [{k: v for k, v in row["result"].items() if k != "per_query"} for row in record.rows]


def assert_same_intervals(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            assert one[name] == pytest.approx(two[name], abs=1e-9)


def test_another_data_set(run, tmp_path, make_table):
    folder, own = copy_run(run, tmp_path), make_table(("test", few_images("test", 8)))
    asked = get_dataset(str(own)).subset("test")
    evaluate_once(folder, images=few_images("test", 4), resamples=50)
    kept = (folder / "test.json").read_bytes()
    record = evaluate_once(folder, images=get_dataset(str(own)), resamples=50)
    assert_same_intervals(
        intervals_of(record), metrics_of(run, asked, asked, torch.arange(len(asked)))
    )
    assert (folder / "test.json").read_bytes() == kept
    assert len(list(folder.glob("test-*.json"))) == 1
    status, said = run_diml("evaluate", folder, "--dataset", own)
    assert status == 0
    assert said.startswith(f"own, test: {len(asked)} queries")


def test_a_split_by_name(run, tmp_path, make_table):
    folder = copy_run(run, tmp_path)
    val, test = halves(few_images("test", 8))
    own = get_dataset(str(make_table(("val", val), ("test", test))))
    record = evaluate_once(folder, images=own, split="validation", resamples=50)
    asked = own.subset("val")
    assert_same_intervals(
        intervals_of(record), metrics_of(run, asked, asked, torch.arange(len(asked)))
    )
    for wrong in ("vla", "val:vla", "val:val:val", ":"):
        with pytest.raises(
            ValueError, match=f"split: own has train, val, test; expected .* got {wrong!r}"
        ):
            evaluate_once(folder, images=own, split=wrong)


def halves(some):
    first = torch.tensor([n % 2 == 0 for n in range(len(some))])
    return some.select(first), some.select(~first)


@pytest.mark.parametrize("split", (None, "query:gallery", "gallery:query"))
def test_queries_and_gallery_by_split(run, tmp_path, make_table, split):
    folder, (q, g) = copy_run(run, tmp_path), halves(few_images("test", 8))
    own = get_dataset(str(make_table(("query", q), ("gallery", g))))
    record = evaluate_once(folder, images=own, split=split, resamples=50)
    names = (split or "query:gallery").split(":")
    assert_same_intervals(intervals_of(record), metrics_of(run, *map(own.subset, names)))
    assert record.config["protocol"] == f"own, {split or 'query:gallery'}"


def test_queries_and_gallery_by_folders(run, tmp_path):
    q, g = halves(few_images("test", 6))
    for split, some in (("train", few_images(classes=4)), ("query", q), ("gallery", g)):
        for path in some.paths:
            place = tmp_path / "set" / split / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    own, folder = get_dataset(str(tmp_path / "set")), copy_run(run, tmp_path)
    record = evaluate_once(folder, images=own, resamples=50)
    assert_same_intervals(
        intervals_of(record), metrics_of(run, own.subset("query"), own.subset("gallery"))
    )
    assert run_diml("evaluate", folder, "--dataset", tmp_path / "set")[1].startswith(
        f"set, query:gallery: {len(q)} queries"
    )


def test_queries_and_gallery_by_columns(run, tmp_path, make_table):
    "Some queries are in the gallery too, and left out of their own lists; the others are not."
    some = few_images("test", 8)

    def marks(n):
        return ("True" if n % 3 else "False", "false" if n % 4 == 1 else "1")

    own = get_dataset(
        str(make_table(("validation", some), marks=marks))
    )  # as neighbouring libraries name it; it is the test
    val = own.subset("test")
    asked = torch.tensor([t == "True" for t in val.metadata["is_query"]]).nonzero().flatten()
    shown = torch.tensor([t == "1" for t in val.metadata["is_gallery"]]).nonzero().flatten()
    trained = load_trained(run)
    record = evaluate_once(copy_run(run, tmp_path), images=own, resamples=50)
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
def test_marks_that_are_neither_yes_nor_no(run, make_table, nothing_computed, marks, message):
    own = get_dataset(str(make_table(("val", few_images("test", 4)), marks=lambda n: marks)))
    with pytest.raises(ValueError, match=message):
        evaluate_once(run, images=own)


def test_held_out_classes_are_validated_as_their_marks_say(tmp_path):
    "The best score of a run is that of its marked queries among its marked gallery."
    images = few_images()
    is_query = [design in ("noto", "twemoji") for design in images.metadata["design"]]
    marks = dict(is_query=tuple(map(str, is_query)), is_gallery=tuple(str(not x) for x in is_query))
    marked = replace(images, metadata=images.metadata | marks)
    train(TrainConfig(**SMALL | dict(epochs=1)), tmp_path / "run", images=marked)
    trained = load_trained(tmp_path / "run")
    held = split_classes(images.label_n, SMALL["validation"], 0)[1]
    x = concatenate_features(
        extract_features(
            trained.network, EmbeddingInputs(images, trained.backbone, True), held, grid=4
        )
    )
    asked_n = torch.tensor(is_query)[held]
    label_n = images.label_n[held]
    ranking = rerank(search(x[asked_n], x[~asked_n]), x[asked_n], x[~asked_n], top_k=100)
    expected = retrieval_metrics(ranking, label_n[asked_n], label_n[~asked_n])
    name = "mean_average_precision_at_r"
    assert trained.best[f"validation_{name}"] == pytest.approx(expected[name], abs=2e-6)


def test_marks_that_cannot_be_read_stop_a_training_at_once(tmp_path, nothing_computed):
    images = few_images()
    odd = ("maybe",) * len(images)
    marked = replace(images, metadata=images.metadata | dict(is_query=odd, is_gallery=odd))
    with pytest.raises(ValueError, match="is_query: expected true or false, got 'maybe'"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=marked)


def test_held_out_queries_with_nothing_to_find_stop_a_training_at_once(tmp_path, nothing_computed):
    "The gallery holds one class, the queries another, in each draw of held-out classes."
    images = few_images()
    first_n = images.label_n % 2 == 0
    marks = dict(
        is_query=tuple(str(bool(x)) for x in first_n),
        is_gallery=tuple(str(not bool(x)) for x in first_n),
    )
    marked = replace(images, metadata=images.metadata | marks)
    held = split_classes(images.label_n, SMALL["validation"], 0)[1]
    assert len(set((images.label_n[held] % 2).tolist())) == 2
    with pytest.raises(ValueError, match="queries of the held-out classes has an image"):
        train(TrainConfig(**SMALL), tmp_path / "run", images=marked)
