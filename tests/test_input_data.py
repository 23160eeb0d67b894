"""Input is checked, not guessed: folders, tables, labels and images are read as they are meant, or
refused by name."""

import errno
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diml_nb._internal.checks import as_labels
from diml_nb._internal.paths import data_dir
from diml_nb.cli import app
from diml_nb.datasets.archives import atomic_directory
from diml_nb.datasets.dataset import ImageDataset, split_first_half
from diml_nb.datasets.download import fetch_file, file_lock
from diml_nb.datasets.folders import load_csv, load_folder
from diml_nb.datasets.registry import get_dataset, shared_classes, verify_dataset
from diml_nb.learning.dataset_check import check_dataset, read_image_facts
from diml_nb.learning.evaluation import evaluate_retrieval
from diml_nb.learning.sampling import check_splits, sample_balanced_batch, split_classes


def save(path: Path, colour="tan", size=(20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, format="PNG")
    return path


def tree(top: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        save(top / name, colour=(i, 2 * i, 99))
    return top


def labels(images: ImageDataset) -> dict[str, str]:
    "File -> class."
    return {
        "/".join(p.parts[-2:]): images.classes[i]
        for p, i in zip(images.paths, images.label_n.tolist(), strict=True)
    }


def diml(*words) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(w) for w in words], prog_name="diml")
    return done.exit_code, done.output


@pytest.fixture
def four(tmp_path) -> Path:
    return tree(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png", "b/2.png")


# links


def test_a_link_back_to_the_top_adds_nothing(four):
    (four / "a" / "all").symlink_to("..")
    with pytest.warns(UserWarning, match="a/all is a link to .*photos"):
        images = load_folder(four)
    assert labels(images) == {"a/1.png": "a", "a/2.png": "a", "b/1.png": "b", "b/2.png": "b"}


@pytest.mark.parametrize(
    "link,to", [("a/b", "../b"), ("c", "a"), ("a/again", "."), ("b/z.png", "../a/1.png")]
)
def test_a_link_within_the_set_is_left_out_and_said(four, link, to):
    (four / link).symlink_to(to)
    with pytest.warns(UserWarning, match=f"{link} is a link to"):
        images = load_folder(four)
    assert labels(images) == {"a/1.png": "a", "a/2.png": "a", "b/1.png": "b", "b/2.png": "b"}


def test_links_that_lead_to_each_other_end(four):
    (four / "a" / "b").symlink_to("../b")
    (four / "b" / "a").symlink_to("../a")
    with pytest.warns(UserWarning, match="links to images of the set itself"):
        assert len(load_folder(four)) == 4


def test_links_to_elsewhere_are_followed_once(four, tmp_path):
    tree(tmp_path / "disk", "kite/1.png", "kite/2.png")
    (four / "kite").symlink_to(tmp_path / "disk" / "kite")
    assert load_folder(four).classes == ("a", "b", "kite")
    (four / "hawk").symlink_to(tmp_path / "disk" / "kite")
    with pytest.raises(ValueError, match="kite and .*hawk|hawk and .*kite.* links to one place"):
        load_folder(four)


def test_two_links_to_one_file_are_refused(four, tmp_path):
    save(tmp_path / "x.png")
    for name in ("a/x.png", "b/x.png"):
        (four / name).symlink_to(tmp_path / "x.png")
    with pytest.raises(ValueError, match="b/x.png and .*a/x.png are links to one place"):
        load_folder(four)


def test_a_link_above_the_set_and_one_to_nothing_are_refused(four):
    (four / "a" / "up").symlink_to("../..")
    with pytest.raises(ValueError, match="a/up is a link to .* which holds .*photos itself"):
        load_folder(four)
    (four / "a" / "up").unlink()
    (four / "c").symlink_to("/nowhere/c")
    with pytest.raises(ValueError, match="1 links lead to nothing: .*photos/c"):
        load_folder(four)


def test_a_set_behind_a_link_and_a_tree_of_links(four, tmp_path):
    (tmp_path / "mine").symlink_to(four)
    assert len(load_folder(tmp_path / "mine")) == 4
    assert load_folder(tmp_path / "mine").hash == load_folder(four).hash
    for name in ("train/a/1.png", "train/a/2.png", "test/b/1.png"):
        (tmp_path / "links" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "links" / name).symlink_to(four / name.partition("/")[2])
    assert load_folder(tmp_path / "links").split_n == ("test", "train", "train")


def test_a_folder_that_cannot_be_read_is_no_empty_one(four, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="photos/b"):
        load_folder(four)


def test_a_table_lists_no_file_twice_by_links(four):
    (four / "b" / "3.png").symlink_to("../a/1.png")
    (four / "t.csv").write_text("path,label\na/1.png,a\nb/3.png,b\n")
    with pytest.raises(
        ValueError, match="t.csv: 1 images are listed twice, by links: .*b/3.png and .*a/1.png"
    ):
        load_csv(four / "t.csv")


# splits


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


def test_splits_of_a_table(four):
    rows = "path,label,split\n" + "".join(
        f"{p},{c},{s}\n"
        for p, c, s in zip(
            ("a/1.png", "a/2.png", "b/1.png"), "aab", ("Training", "TRAIN", "testing"), strict=True
        )
    )
    (four / "t.csv").write_text(rows)
    assert load_csv(four / "t.csv").split_n == ("train", "train", "test")
    (four / "t.csv").write_text(rows.replace("testing", "trian"))
    with pytest.warns(UserWarning, match="splits trian are none of train, val, test"):
        load_csv(four / "t.csv")


def test_folders_without_images_are_said(four):
    (four / "c").mkdir()
    (four / "d").mkdir()
    (four / "d" / "1.txt").write_text("")
    with pytest.warns(UserWarning, match="2 folders hold no image and are no classes: c, d"):
        assert load_folder(four).classes == ("a", "b")


def test_an_empty_split_is_said(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "test").mkdir()
    with pytest.warns(UserWarning, match="hold no image .*: test"):
        assert set(load_folder(tmp_path).split_n) == {"train"}


# classes on both sides


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


def test_no_word_where_none_is_shared(four):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared_classes(load_folder(four)) == ()
        assert verify_dataset(four) == 4


# names that are paths, paths that are none


def test_a_name_that_is_also_a_folder_is_said(tmp_path, monkeypatch):
    tree(tmp_path, "emoji/a/1.png", "emoji/b/1.png")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(
        UserWarning,
        match=(
            f"'emoji' is the data set of that name, .*{tmp_path}/emoji is not read: for that give"
            " ./emoji"
        ),
    ):
        assert len(get_dataset("emoji")) == 592
    assert (
        len(get_dataset("./emoji"))
        == len(get_dataset("emoji/"))
        == len(get_dataset(tmp_path / "emoji"))
        == 2
    )
    monkeypatch.chdir(data_dir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(get_dataset("emoji")) == 592


def test_a_missing_set_whose_name_is_a_folder(tmp_path, monkeypatch):
    tree(tmp_path, "cub/a/1.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="diml data fetch cub.*; for .*/cub give ./cub"):
        get_dataset("cub", root=tmp_path.parent)


def test_home(four, monkeypatch):
    monkeypatch.setenv("HOME", str(four.parent))
    assert (
        len(get_dataset("~/photos"))
        == len(load_folder("~/photos"))
        == verify_dataset("~/photos")
        == 4
    )
    (four / "t.csv").write_text("path,label\na/1.png,a\nb/1.png,b\n")
    assert len(get_dataset("~/photos/t.csv")) == len(load_csv("~/photos/t.csv")) == 2
    shutil.copytree(data_dir() / "emoji", four.parent / "data" / "emoji")
    assert len(get_dataset("emoji", root="~/data")) == 592


def test_a_pattern(tmp_path):
    top = tree(
        tmp_path / "own",
        *(f"{s}/{c}/{n}.png" for s, c in zip(("train", "test"), "ab", strict=True) for n in (1, 2)),
    )
    save(top / "loose.png")
    assert load_folder(top, only={str(top / "train"), str(top / "test")}).classes == ("a", "b")
    images = get_dataset(str(top / "*" / "*" / "1.png"))
    assert len(images) == 2
    assert sorted(images.split_n) == ["test", "train"]
    assert len(get_dataset(str(top / "t*"))) == verify_dataset(str(top / "**" / "[ab]")) == 4
    with pytest.raises(ValueError, match="no file and no folder matches '.*x.png'"):
        get_dataset(str(top / "*" / "x.png"))


def test_a_folder_with_brackets_is_a_folder(tmp_path):
    assert len(get_dataset(str(tree(tmp_path / "own[1]", "a/1.png", "b/1.png")))) == 2


@pytest.mark.parametrize("name", ["", "  ", 2024, None, ["emoji"]])
def test_no_name_is_refused(name):
    with pytest.raises(
        ValueError, match="name: expected the name of a data set or a path, as a text"
    ):
        get_dataset(name)


def test_one_image_is_no_set(four):
    with pytest.raises(ValueError, match="a/1.png is one image; a data set is a folder"):
        get_dataset(four / "a" / "1.png")


# tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings(tmp_path, separator, encoding):
    tree(tmp_path, "ä, 1.png", "2.png")
    rows = [
        ("Path", "label", "Split", "seen by"),
        ('"ä, 1.png"', '"auk; great"', "train", "me"),
        ("2.png", "émeu", "test", "you"),
    ]
    (tmp_path / "t.csv").write_text(
        "\r\n".join(separator.join(row) for row in rows), encoding=encoding
    )
    images = load_csv(tmp_path / "t.csv")
    assert images.classes == ("auk; great", "émeu")
    assert images.split_n == ("train", "test")
    assert images.metadata["seen by"] == ("me", "you")
    assert images.paths[0].name == "ä, 1.png"


@pytest.mark.parametrize(
    "content,message",
    [
        (
            "path,label\nü.png,a\n".encode("latin-1"),
            "t.csv is not a CSV table in UTF-8 .line 2.*iconv -f latin1 -t utf-8",
        ),
        ("path,label\n1.png,a\n".encode("utf-16-le"), "not a CSV table: it holds zero bytes"),
        (b"x" * 200_000, "not a CSV table: field larger than field limit"),
        (b"PK\x03\x04\x00\x00\x00", "zero bytes, as a picture, an archive"),
        (b"path,label,Label\n1.png,a,b\n", "two columns label"),
        (b"path|label\n1.png|a\n", "no column label and path, only path.label; rename the columns"),
        (
            b"path,label,split,is_query\n1.png,a,val,1\n",
            "is_query: expected is_query, is_gallery and split together",
        ),
        (
            b"path,label,is_query,is_gallery\n1.png,a,1,1\n",
            "is_gallery: expected is_query, is_gallery and split together",
        ),
    ],
)
def test_tables_that_would_be_a_guess(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_csv(tmp_path / "t.csv")


def test_lines_of_an_old_macintosh(tmp_path):
    tree(tmp_path, "1.png", "2.png")
    (tmp_path / "t.csv").write_bytes(b"path;label\r1.png;a\r2.png;b\r")
    assert load_csv(tmp_path / "t.csv").classes == ("a", "b")


def test_a_table_of_open_metric_learning(tmp_path):
    tree(tmp_path, "1.png", "2.png", "3.png", "4.png")
    text = (
        "label,path,split,is_query,is_gallery,category\n"
        "1,1.png,train,,,x\n"
        "1,2.png,train,,,x\n"
        "2,3.png,validation,True,True,y\n"
        "2,4.png,validation,True,True,y\n"
    )
    (tmp_path / "df.csv").write_text(text)
    images = load_csv(tmp_path / "df.csv")
    assert images.split_n == ("train", "train", "test", "test")
    assert images.metadata["is_query"] == ("", "", "True", "True")
    (tmp_path / "df.csv").write_text(text.replace("2,3.png,validation", "2,3.png,test"))
    assert load_csv(tmp_path / "df.csv").split_n == ("train", "train", "test", "val")


def test_labels_are_texts(tmp_path):
    "Digits keep their zeros, and NA, null and nan are classes."
    names = ["007", "7", "1.0", "NA", "null", "nan", "None", "true", "1e3"]
    tree(tmp_path / "t", *(f"{n}.png" for n in range(len(names))))
    (tmp_path / "t" / "t.csv").write_text(
        "path,label\n" + "".join(f"{n}.png,{name}\n" for n, name in enumerate(names))
    )
    assert load_csv(tmp_path / "t" / "t.csv").classes == tuple(names)
    folder = tree(tmp_path / "f", *(f"{name}/1.png" for name in names))
    assert load_folder(folder).classes == tuple(sorted(names))
    (tmp_path / "2024").mkdir()
    assert len(get_dataset(str(tree(tmp_path / "2024", "1/1.png", "2/1.png")))) == 2


def test_scenes_keep_a_class_called_na(tmp_path):
    from diml_nb.datasets.scenes import build_emoji_scenes

    for name in ("NA", "owl"):
        shutil.copytree(data_dir() / "emoji" / "owl", tmp_path / "emoji" / name)
    (tmp_path / "emoji" / "classes.csv").write_text("class,split\nNA,train\nowl,test\n")
    rows = build_emoji_scenes({}, tmp_path / "new", tmp_path, each=1, per_split=1)
    assert [*rows.label] == ["NA", "owl"]


def test_the_wrong_slash_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na\\1.png,a\n")
    with pytest.raises(FileNotFoundError, match="in a table / divides folders"):
        load_csv(tmp_path / "t.csv")


# labels


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
    with pytest.raises(ValueError, match="per_class: expected at most 1, .* number 1 has 1"):
        sample_balanced_batch([np.array([0, 1]), np.array([2])], 4, 2, 0)
    assert sorted(
        sample_balanced_batch([np.array([0, 1]), np.array([2, 3])], 4, 2, 0).tolist()
    ) == [0, 1, 2, 3]


def test_evaluate_takes_labels_of_numpy():
    from diml_nb.features.grid import grid_features

    features, numbers = grid_features(torch.rand(6, 4, 4, 4)), [0, 0, 1, 1, 2, 2]
    assert (
        evaluate_retrieval(features, np.array(numbers), structural=False).means
        == evaluate_retrieval(features, torch.tensor(numbers), structural=False).means
    )


# before a training


def small(tmp_path, classes, images=6) -> ImageDataset:
    "Classes of drawings, as many in train as in test."
    names = sorted({p.parent.name for p in get_dataset().paths})
    for i, name in enumerate(names[: 2 * classes]):
        for path in sorted((data_dir() / "emoji" / name).iterdir())[:images]:
            target = tmp_path / "small" / ("train" if i < classes else "test") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return load_folder(tmp_path / "small")


def test_all_reasons_at_once_and_options_that_fit(tmp_path):
    images = small(tmp_path, 5)
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
    x = small(tmp_path, classes, images)
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
    learn, held = split_classes(train.label_n, settings.get("validation", 0.2))
    assert facts["images to learn from"] == len(learn)
    assert facts["images held out"] == len(held)
    label_n = train.label_n[learn].unique(return_inverse=True)[1]
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
        check_splits(change(small(tmp_path, 3)), "evaluate")


def test_queries_and_gallery(tmp_path):
    x = small(tmp_path, 3)
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
    x = small(tmp_path, 6)
    one = x.select(
        torch.tensor([s == "train" for s in x.split_n]) | (x.label_n == x.subset("test").label_n[0])
    )
    with pytest.warns(
        UserWarning, match="the test after this training will be refused: small, test: 1 classes"
    ):
        check_splits(one, batch_size=8, validation=0)
    with pytest.raises(ValueError, match="use: expected train or evaluate, got 'test'"):
        check_splits(x, "test")


# diml data check


def test_check_of_a_good_set():
    status, output = diml("data", "check")
    assert status == 0
    assert "training and evaluation can begin" in output
    assert "odd" not in output
    assert check_dataset().training["MB of maps, on the disk"] == 37
    assert check_dataset().ok


def faulty(tmp_path) -> Path:
    top = tmp_path / "own"
    for name in ("bus", "owl", "ant", "koala"):
        shutil.copytree(data_dir() / "emoji" / name, top / name)
    (top / "Owl").mkdir()
    shutil.copy(top / "owl" / "noto.png", top / "Owl" / "copy.png")
    Image.fromarray(np.linspace(0, 65535, 64 * 64, dtype="uint16").reshape(64, 64)).save(
        top / "bus" / "scan.png"
    )
    frames = [Image.new("L", (64, 64), c) for c in (0, 200)]
    frames[0].save(top / "bus" / "film.gif", save_all=True, append_images=frames[1:])
    (top / "ant" / "cut.png").write_bytes((top / "ant" / "noto.png").read_bytes()[:1500])
    save(top / "koala" / "wide.png", size=(300, 20))
    (top / "koala" / "notes.txt").write_text("")
    (top / "empty").mkdir()
    (top / "ant" / "all").symlink_to("..")
    return top


def test_check_names_all_that_is_odd(tmp_path):
    status, output = diml("data", "check", faulty(tmp_path))
    assert status == 1
    assert "training or evaluation would be refused" in output
    expected = (
        "2 of 28 images cannot be used",
        "ant/cut.png",
        "film.gif",
        "2 frames",
        (
            "1 images are more than twice as long as wide, of which a network sees the square in"
            " the middle: koala/wide.png"
        ),
        "one colour all over: koala/wide.png",
        "smaller than 32 pixels",
        "Owl/copy.png = owl/noto.png",
        "Owl = owl",
        "have one image, which nothing can find: Owl",
        "1 with .txt",
        "no classes: empty",
        "ant/all is a link to",
        "what would do: --batch-size",
        "I;16",
    )
    for words in expected:
        assert words in output, words


def test_check_computes_no_network_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        torch.nn.Module, "__call__", lambda *a, **k: pytest.fail("a network was computed")
    )
    monkeypatch.setenv("DIML_CACHE", str(tmp_path / "cache"))
    top = faulty(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    check_dataset(top)
    assert sorted(tmp_path.rglob("*")) == before


def test_check_with_the_options_it_proposes(tmp_path):
    images = small(tmp_path, 5)
    top = images.paths[0].parents[2]
    assert diml("data", "check", top)[0] == 1
    status, output = diml("data", "check", top, "--batch-size", "10", "--validation", "0")
    assert status == 0
    assert "classes to learn" in output


@pytest.mark.parametrize("name", ["/nowhere/at/all", "x\x1b[31m.csv", "2024"])
def test_check_of_nothing(name):
    status, output = diml("data", "check", name)
    assert status == 1
    assert "unknown data set" in output or "matches" in output
    assert "\x1b" not in output


def test_check_escapes_names(tmp_path):
    tree(tmp_path / "own", "a\x1b[31m\nb/1.png", "c/1.png", "c/2.png")
    status, output = diml("data", "check", tmp_path / "own")
    assert status == 1
    assert "\x1b" not in output
    assert r"a\x1b[31m" in output


def test_a_broken_mask_is_refused_first(tmp_path):
    tree(tmp_path, "a/1.png", "b/1.png", "m/1.png", "m/2.png")
    (tmp_path / "t.csv").write_text("path,label,mask\na/1.png,a,m/1.png\nb/1.png,b,m/2.png\n")
    assert len(load_csv(tmp_path / "t.csv")) == 2
    (tmp_path / "m" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 4 images cannot be used:.*\n.*m/2.png"):
        load_csv(tmp_path / "t.csv")
    assert "mask 2.png" in str(check_dataset(tmp_path / "t.csv"))


def test_check_refuses_what_loading_refuses(four):
    (four / "b" / "3.png").symlink_to("../a/1.png")
    (four / "t.csv").write_text("path,label\na/1.png,a\nb/3.png,b\n")
    assert "are listed twice, by links" in check_dataset(four / "t.csv").refused[0]
    (four / "t.csv").rename(four / "images.csv")
    assert "are listed twice, by links" in check_dataset(four).refused[0]


def test_check_of_tables_and_named_sets(tmp_path):
    tree(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "t.csv").write_text("path;label\na/1.png;1\na/2.png;01\nb/1.png;b\n")
    report = check_dataset(tmp_path / "t.csv")
    assert any("1 = 01" in line for line in report.odd)
    assert not report.ok
    (tmp_path / "t.csv").write_bytes("path,label\nü.png,a\n".encode("latin-1"))
    assert "iconv" in str(check_dataset(tmp_path / "t.csv"))


def test_a_huge_picture_is_said_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    save(tmp_path / "x.png", size=(100, 30))
    assert "decompression bomb" in read_image_facts(tmp_path / "x.png").fault


# disks


def test_locks_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with file_lock(tmp_path / "a"), file_lock(tmp_path / "b"):
        assert len(list(tmp_path.glob("diml_nb-*/locks/*"))) == 2


def test_locks_that_the_disk_does_not_have(tmp_path, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with file_lock(tmp_path / "a"):
        pass


def test_locked_passes_errors_of_its_block_on(tmp_path):
    with pytest.raises(OSError, match="disk full"):
        with file_lock(tmp_path / "a"):
            raise OSError("disk full")


def test_two_processes_without_a_cache_wait_for_each_other(tmp_path):
    code = (
        "import sys, time; from diml_nb.datasets.download import file_lock\nwith"
        " file_lock(sys.argv[1]): print('in', flush=True); time.sleep(.4); print('out', flush=True)"
    )
    environment = os.environ | {"DIML_CACHE": "/dev/null/x", "TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w") as said:
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path / "x")], stdout=said, env=environment
            )
            for _ in range(2)
        ]
        assert [p.wait() for p in both] == [0, 0]
    assert (tmp_path / "said").read_text().split() == ["in", "out", "in", "out"]


def test_a_folder_that_cannot_be_renamed_is_copied(tmp_path, monkeypatch):
    "As in a lower layer of a container."
    rename = Path.rename

    def layered(self, target):
        if self.name == "set" or self.name == "old":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    for n in (1, 2):
        with atomic_directory(tmp_path / "set") as new:
            (new / str(n)).write_text("")
        monkeypatch.setattr(Path, "rename", layered)
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["2"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_disk_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    with pytest.raises(
        OSError, match=f"{tmp_path} cannot be written .*Read-only file system.*--root"
    ):
        with atomic_directory(tmp_path / "set"):
            pass


def test_archives_without_a_cache(monkeypatch):
    from diml_nb.datasets.registry import RemoteFile

    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    with pytest.raises(OSError, match="x.zip: there is no folder to look for it .*--archives"):
        fetch_file(RemoteFile("x.zip"))


def test_a_set_that_is_there_needs_no_disk_to_write_on(tmp_path, monkeypatch):
    from diml_nb.datasets.prepare import prepare_dataset

    shutil.copytree(data_dir() / "emoji", tmp_path / "emoji")
    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    monkeypatch.setattr(
        "tempfile.TemporaryDirectory", lambda **options: pytest.fail("it was made again")
    )
    before = sorted(tmp_path.rglob("*"))
    assert prepare_dataset("emoji", root=tmp_path) == tmp_path / "emoji"
    assert sorted(tmp_path.rglob("*")) == before
