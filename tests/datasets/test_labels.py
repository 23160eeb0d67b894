"""Labels of any kind, and data sets that do not hold together."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from image_files import save

from diml_nb._internal.checks import as_labels
from diml_nb.datasets.dataset import ImageDataset, split_first_half
from diml_nb.datasets.folders import load_folder
from diml_nb.datasets.registry import get_dataset
from diml_nb.learning.dataset_check import check_dataset
from diml_nb.learning.evaluation import evaluate_retrieval
from diml_nb.learning.sampling import check_splits, split_classes


@pytest.mark.parametrize(
    "made",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        lambda x: np.array(x, "uint8"),
        lambda x: [np.int32(i) for i in x],
        lambda x: pd.Series(x, index=[9, 8, 7, 6, 5, 4]),
    ],
)
def test_labels_of_any_make(made):
    numbers = [0, 0, 1, 1, 2, 2]
    assert torch.equal(as_labels(made(numbers), "label_n"), torch.tensor(numbers))
    assert split_first_half(made(numbers)) == split_first_half(torch.tensor(numbers))
    assert [x.tolist() for x in split_classes(made(numbers), 0.7)] == [
        x.tolist() for x in split_classes(torch.tensor(numbers), 0.7)
    ]
    images = ImageDataset(
        "x", tuple(map(Path, "abcdef")), made(numbers), ("p", "q", "r"), ["train"] * 6
    )
    assert images.label_n.dtype == torch.int64
    assert images.counts == {"train": (6, 3)}
    assert len(images.select(np.array([True] * 2 + [False] * 4))) == 2
    assert images[np.int64(4)].label == 2
    assert images.select(np.array([5, 0])).paths == (Path("f"), Path("a"))


def test_a_kept_label_does_not_change_with_the_array():
    array = np.array([0, 1])
    images = ImageDataset("x", (Path("a"), Path("b")), array, ("p", "q"), ("train", "test"))
    array[0] = 1
    assert images.label_n.tolist() == [0, 1]


@pytest.mark.parametrize(
    "change,message",
    [
        (
            dict(label_n=["auk", "emu"]),
            (
                "label_n: expected one whole number for each image, the number of its class, got"
                " <U3.*'auk'"
            ),
        ),
        (dict(label_n=[0.0, 1.0]), "label_n: expected one whole number .*float64"),
        (dict(label_n=torch.tensor([[0, 1]])), r"label_n: .*shape \(1, 2\)"),
        (dict(label_n=[0, 2]), "label_n: expected numbers into 2 classes, got 0 to 2"),
        (dict(label_n=[-1, 0]), "got -1 to 0"),
        (dict(label_n=[0]), "label_n: expected one value for each of 2 images, got 1"),
        (dict(split_n=("train",)), "split_n: expected one value for each of 2 images, got 1"),
        (
            dict(metadata={"box": torch.zeros(3, 4)}),
            "box: expected one value for each of 2 images, got 3",
        ),
        (dict(paths=(1, 2)), "paths: expected files"),
    ],
)
def test_an_image_set_holds_together(change, message):
    fields = dict(
        name="x",
        paths=(Path("a"), Path("b")),
        label_n=[0, 1],
        classes=("p", "q"),
        split_n=("train", "test"),
    )
    with pytest.raises(ValueError, match=message):
        ImageDataset(**fields | change)


def test_a_mask_of_another_length_is_refused():
    images = get_dataset()
    for n, message in (
        (torch.ones(5, dtype=torch.bool), "mask of 592 values"),
        (torch.tensor([0.5]), "expected positions or a mask, got torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            images.select(n)


def test_names_of_bytes_have_a_hash(tmp_path):
    name = os.fsdecode(b"\xff.png")
    try:
        save(tmp_path / "a" / name)
    except OSError:
        pytest.skip("this disk takes no name that is not UTF-8")
    save(tmp_path / "b" / "1.png")
    assert len(load_folder(tmp_path).hash) == 64
    (tmp_path / "a" / name).write_bytes(b"")
    assert "\\udcff.png" in str(check_dataset(tmp_path))
    assert "\udcff" not in str(check_dataset(tmp_path))
    with pytest.raises(ValueError, match="x has no image"):
        _ = replace(load_folder(tmp_path, check=False).select([]), name="x").hash


def test_the_class_that_is_too_small_is_named():
    images = get_dataset().select(torch.arange(7))
    name = images.classes[int(images.label_n[6])]
    with pytest.raises(
        ValueError,
        match=(
            f"per_class: 2 images of each class are drawn, 1 of 2 classes have fewer: {name}; leave"
            " .* --batch-size 2 --set per_class=1"
        ),
    ):
        check_splits(images, split="all", batch_size=4, validation=0)


def test_evaluate_takes_labels_of_numpy():
    from diml_nb.features.grid import grid_features

    features, numbers = grid_features(torch.rand(6, 4, 4, 4)), [0, 0, 1, 1, 2, 2]
    assert (
        evaluate_retrieval(features, np.array(numbers), structural=False).means
        == evaluate_retrieval(features, torch.tensor(numbers), structural=False).means
    )
