"""Folders with symbolic links: no image twice, none from elsewhere unsaid."""

import errno
import os

import pytest
from image_files import save, tree

from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.folders import load_csv, load_folder


def labels(images: ImageDataset) -> dict[str, str]:
    "File -> class."
    return {
        "/".join(p.parts[-2:]): images.classes[i]
        for p, i in zip(images.paths, images.label_n.tolist(), strict=True)
    }


def test_a_link_back_to_the_top_adds_nothing(two_class_folder):
    (two_class_folder / "a" / "all").symlink_to("..")
    with pytest.warns(UserWarning, match="a/all is a link to .*photos"):
        images = load_folder(two_class_folder)
    assert labels(images) == {"a/1.png": "a", "a/2.png": "a", "b/1.png": "b", "b/2.png": "b"}


@pytest.mark.parametrize(
    "link,to", [("a/b", "../b"), ("c", "a"), ("a/again", "."), ("b/z.png", "../a/1.png")]
)
def test_a_link_within_the_set_is_left_out_and_said(two_class_folder, link, to):
    (two_class_folder / link).symlink_to(to)
    with pytest.warns(UserWarning, match=f"{link} is a link to"):
        images = load_folder(two_class_folder)
    assert labels(images) == {"a/1.png": "a", "a/2.png": "a", "b/1.png": "b", "b/2.png": "b"}


def test_links_that_lead_to_each_other_end(two_class_folder):
    (two_class_folder / "a" / "b").symlink_to("../b")
    (two_class_folder / "b" / "a").symlink_to("../a")
    with pytest.warns(UserWarning, match="links to images of the set itself"):
        assert len(load_folder(two_class_folder)) == 4


def test_links_to_elsewhere_are_followed_once(two_class_folder, tmp_path):
    tree(tmp_path / "disk", "kite/1.png", "kite/2.png")
    (two_class_folder / "kite").symlink_to(tmp_path / "disk" / "kite")
    assert load_folder(two_class_folder).classes == ("a", "b", "kite")
    (two_class_folder / "hawk").symlink_to(tmp_path / "disk" / "kite")
    with pytest.raises(ValueError, match="kite and .*hawk|hawk and .*kite.* links to one place"):
        load_folder(two_class_folder)


def test_two_links_to_one_file_are_refused(two_class_folder, tmp_path):
    save(tmp_path / "x.png")
    for name in ("a/x.png", "b/x.png"):
        (two_class_folder / name).symlink_to(tmp_path / "x.png")
    with pytest.raises(ValueError, match="b/x.png and .*a/x.png are links to one place"):
        load_folder(two_class_folder)


def test_a_link_above_the_set_and_one_to_nothing_are_refused(two_class_folder):
    (two_class_folder / "a" / "up").symlink_to("../..")
    with pytest.raises(ValueError, match="a/up is a link to .* which holds .*photos itself"):
        load_folder(two_class_folder)
    (two_class_folder / "a" / "up").unlink()
    (two_class_folder / "c").symlink_to("/nowhere/c")
    with pytest.raises(ValueError, match="1 links lead to nothing: .*photos/c"):
        load_folder(two_class_folder)


def test_a_set_behind_a_link_and_a_tree_of_links(two_class_folder, tmp_path):
    (tmp_path / "mine").symlink_to(two_class_folder)
    assert len(load_folder(tmp_path / "mine")) == 4
    assert load_folder(tmp_path / "mine").hash == load_folder(two_class_folder).hash
    for name in ("train/a/1.png", "train/a/2.png", "test/b/1.png"):
        (tmp_path / "links" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "links" / name).symlink_to(two_class_folder / name.partition("/")[2])
    assert load_folder(tmp_path / "links").split_n == ("test", "train", "train")


def test_a_folder_that_cannot_be_read_is_no_empty_one(two_class_folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="photos/b"):
        load_folder(two_class_folder)


def test_a_table_lists_no_file_twice_by_links(two_class_folder):
    (two_class_folder / "b" / "3.png").symlink_to("../a/1.png")
    (two_class_folder / "t.csv").write_text("path,label\na/1.png,a\nb/3.png,b\n")
    with pytest.raises(
        ValueError, match="t.csv: 1 images are listed twice, by links: .*b/3.png and .*a/1.png"
    ):
        load_csv(two_class_folder / "t.csv")
