"""Splits and classes by the names of folders; classes on both sides."""

import warnings
from pathlib import Path

import pytest
from image_files import tree

from diml_nb.datasets.folders import load_csv, load_folder
from diml_nb.datasets.registry import shared_classes, verify_dataset
from diml_nb.learning.sampling import check_splits


@pytest.mark.parametrize(
    "names",
    [
        ("training", "testing"),
        ("Train", "TEST"),
        ("train", "valid"),
        ("train", "validation"),
        ("queries", "gallery"),
    ],
)
def test_usual_names_of_splits(tmp_path, names):
    images = load_folder(
        tree(tmp_path, *(f"{name}/{c}/1.png" for name, c in zip(names, "ab", strict=True)))
    )
    usual = {
        "training": "train",
        "testing": "test",
        "valid": "val",
        "validation": "val",
        "queries": "query",
    }
    assert images.classes == ("a", "b")
    assert sorted(images.split_n) == sorted(usual.get(n.lower(), n.lower()) for n in names)


@pytest.mark.parametrize(
    "paths,message",
    [
        (
            ("bus/1.png", "car/1.png", "train/1.png"),
            (
                r"splits \(train\) beside others \(bus, car\).*write a table \(images.csv with the"
                r" columns path,label\)"
            ),
        ),
        (("training/a/1.png", "a/1.png"), r"splits \(training\) beside others"),
        (
            ("train_images/a/1.png", "test_images/b/1.png"),
            "test_images, train_images look like splits; rename them to train, val, test",
        ),
        (("train2017/a/1.png", "val2017/b/1.png"), "look like splits"),
        (("train/a/1.png", "training/b/1.png"), "two of the folders train, training are one split"),
        (
            ("a/train/1.png", "a/test/2.png", "b/train/1.png"),
            r"splits \(test, train\) lie below those of classes; put the splits above",
        ),
        (
            ("photos/a/1.png", "photos/b/1.png"),
            (
                "holds one folder, photos, with folders in it; if those are the classes, give"
                " .*/photos"
            ),
        ),
    ],
)
def test_what_may_be_a_split_or_a_class_is_refused_with_a_way_out(tmp_path, paths, message):
    with pytest.raises(ValueError, match=message):
        load_folder(tree(tmp_path / "own", *paths))


def test_classes_with_train_in_their_name_stay_classes(tmp_path):
    images = load_folder(
        tree(
            tmp_path,
            "bullet-train/1.png",
            "test-tube/1.png",
            "trainer/old/1.png",
            "validator/1.png",
        )
    )
    assert images.classes == ("bullet-train", "test-tube", "trainer", "validator")


def test_the_way_out_for_a_class_called_train(tmp_path):
    tree(tmp_path, "bus/1.png", "train/1.png")
    (tmp_path / "images.csv").write_text("path,label\nbus/1.png,bus\ntrain/1.png,train\n")
    assert load_folder(tmp_path).classes == ("bus", "train")


def test_splits_of_a_table(two_class_folder):
    rows = "path,label,split\n" + "".join(
        f"{p},{c},{s}\n"
        for p, c, s in zip(
            ("a/1.png", "a/2.png", "b/1.png"), "aab", ("Training", "TRAIN", "testing"), strict=True
        )
    )
    (two_class_folder / "t.csv").write_text(rows)
    assert load_csv(two_class_folder / "t.csv").split_n == ("train", "train", "test")
    (two_class_folder / "t.csv").write_text(rows.replace("testing", "trian"))
    with pytest.warns(UserWarning, match="splits trian are none of train, val, test"):
        load_csv(two_class_folder / "t.csv")


def test_folders_without_images_are_said(two_class_folder):
    (two_class_folder / "c").mkdir()
    (two_class_folder / "d").mkdir()
    (two_class_folder / "d" / "1.txt").write_text("")
    with pytest.warns(UserWarning, match="2 folders hold no image and are no classes: c, d"):
        assert load_folder(two_class_folder).classes == ("a", "b")


def test_an_empty_split_is_said(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "test").mkdir()
    with pytest.warns(UserWarning, match="hold no image .*: test"):
        assert set(load_folder(tmp_path).split_n) == {"train"}


def both_sides(tmp_path) -> Path:
    return tree(
        tmp_path / "own",
        *(f"{s}/{c}/{n}.png" for s in ("train", "test") for c in "ab" for n in (s + "1", s + "2")),
    )


@pytest.mark.parametrize(
    "call",
    [
        shared_classes,
        lambda x: check_splits(x, batch_size=4, validation=0),
        lambda x: check_splits(x, "evaluate"),
        lambda x: verify_dataset(x.paths[0].parents[2]),
    ],
)
def test_shared_classes_are_said(tmp_path, call):
    images = load_folder(both_sides(tmp_path))
    with pytest.warns(
        UserWarning, match=r"own: 2 classes are in train and in another split \(a, b\)"
    ):
        call(images)


def test_no_word_where_none_is_shared(two_class_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared_classes(load_folder(two_class_folder)) == ()
        assert verify_dataset(two_class_folder) == 4
