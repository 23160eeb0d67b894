"""Names of data sets that are also paths, patterns, and nothing."""

import shutil
import warnings

import pytest
from image_files import save, tree

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.folders import load_csv, load_folder
from diml_nb.datasets.registry import get_dataset, verify_dataset


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


def test_home(two_class_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(two_class_folder.parent))
    assert (
        len(get_dataset("~/photos"))
        == len(load_folder("~/photos"))
        == verify_dataset("~/photos")
        == 4
    )
    (two_class_folder / "t.csv").write_text("path,label\na/1.png,a\nb/1.png,b\n")
    assert len(get_dataset("~/photos/t.csv")) == len(load_csv("~/photos/t.csv")) == 2
    shutil.copytree(data_dir() / "emoji", two_class_folder.parent / "data" / "emoji")
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


def test_one_image_is_no_set(two_class_folder):
    with pytest.raises(ValueError, match="a/1.png is one image; a data set is a folder"):
        get_dataset(two_class_folder / "a" / "1.png")
