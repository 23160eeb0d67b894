"""Before a training: all reasons against it at once, with options that fit."""

from dataclasses import replace

import pytest
import torch
from image_files import split_folder

from diml_nb.learning.sampling import check_splits, sample_balanced_batch, split_classes


def test_all_reasons_at_once_and_options_that_fit(tmp_path):
    images = split_folder(tmp_path, 5)
    with pytest.raises(ValueError) as error:
        check_splits(images)
    for part in (
        "validation: 0.2 of 5 classes",
        "batch_size: 64 with 2 of each class needs 32 classes, there are 5",
        "what would do: --batch-size 10 --set validation=0",
    ):
        assert part in str(error.value)
    assert check_splits(images, batch_size=10, validation=0)["classes to learn"] == 5


@pytest.mark.parametrize(
    "classes,images,settings",
    [
        (2, 3, {}),
        (5, 1, {}),
        (3, 2, dict(per_class=3)),
        (2, 1, dict(batch_size=4, validation=0)),
        (12, 5, {}),
        (4, 6, dict(validation=0.9)),
        (30, 2, dict(batch_size=64, per_class=4)),
    ],
)
def test_what_is_proposed_is_accepted(tmp_path, classes, images, settings):
    "And what check_splits takes, the samplers take, too."
    x = split_folder(tmp_path, classes, images)
    try:
        check_splits(x, **settings)
    except ValueError as error:
        words = (
            str(error)
            .partition("what would do: ")[2]
            .replace("--set ", "")
            .replace("--batch-size ", "batch_size=")
            .split()
        )
        proposed = {
            k: float(v) if k == "validation" else int(v)
            for k, v in (word.split("=") for word in words)
        }
        assert proposed
        settings = settings | proposed
    facts = check_splits(x, **settings)
    train = x.subset("train")
    train_index, validation_index = split_classes(train.label_n, settings.get("validation", 0.2))
    assert facts["images to learn from"] == len(train_index)
    assert facts["images held out"] == len(validation_index)
    label_n = train.label_n[train_index].unique(return_inverse=True)[1]
    images_of = [(label_n == i).nonzero().flatten() for i in range(facts["classes to learn"])]
    size, per = settings.get("batch_size", 64), settings.get("per_class", 2)
    assert len(sample_balanced_batch(images_of, size, per, 0)) == size
    assert size >= 2 * per


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda x: x.subset("train"), "has no split 'test' to test on, only train"),
        (
            lambda x: x.select(torch.isin(x.label_n, x.subset("test").label_n.unique()[:1])),
            "1 classes have a query with another image",
        ),
        (
            lambda x: replace(
                x, label_n=torch.arange(len(x)), classes=tuple(map(str, range(len(x))))
            ),
            "0 classes have a query",
        ),
    ],
)
def test_a_test_that_is_impossible_is_refused_first(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        check_splits(change(split_folder(tmp_path, 3)), "evaluate")


def test_queries_and_gallery(tmp_path):
    x = split_folder(tmp_path, 3)
    n = range(len(x.subset("test")))
    shop = replace(x.subset("test"), split_n=tuple("query" if i % 2 else "gallery" for i in n))
    facts = check_splits(shop, "evaluate")
    assert facts == check_splits(shop, "evaluate", split=("query", "gallery"))
    assert facts["queries"] + facts["gallery"] == len(shop)
    apart = replace(
        shop, split_n=tuple("query" if i == shop.label_n[0] else "gallery" for i in shop.label_n)
    )
    with pytest.raises(ValueError, match="query in gallery: 0 classes"):
        check_splits(apart, "evaluate")


def test_a_test_that_will_be_refused_is_said_before_the_training(tmp_path):
    x = split_folder(tmp_path, 6)
    one = x.select(
        torch.tensor([s == "train" for s in x.split_n]) | (x.label_n == x.subset("test").label_n[0])
    )
    with pytest.warns(
        UserWarning, match="the test after this training will be refused: small, test: 1 classes"
    ):
        check_splits(one, batch_size=8, validation=0)
    with pytest.raises(ValueError, match="use: expected train or evaluate, got 'test'"):
        check_splits(x, "test")
