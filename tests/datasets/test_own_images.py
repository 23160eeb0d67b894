"""Folders and tables of one's own images, and their faults."""

import shutil

import numpy as np
import pytest
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.folders import check_images, load_csv, load_folder
from diml_nb.datasets.registry import contact_sheet, get_dataset, verify_dataset
from diml_nb.features.images import load_image

FOLDER = data_dir() / "emoji"


def save(path, mode="RGB", size=(20, 10), colour=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour or 0).save(path, **options)
    return path


@pytest.mark.parametrize(
    "mode,colour,suffix,expected",
    [
        ("L", 100, "png", (100, 100, 100)),
        ("1", 1, "png", (255, 255, 255)),
        ("LA", (50, 255), "png", (50, 50, 50)),
        ("RGBA", (9, 9, 9, 0), "png", (255, 255, 255)),
        ("P", 0, "gif", (0, 0, 0)),
        ("CMYK", (0, 0, 0, 255), "jpg", (0, 0, 0)),
        ("I;16", 51400, "png", (200, 200, 200)),
        ("I;16", 25700, "tiff", (100, 100, 100)),
        ("I;16", 25700, "pgm", (100, 100, 100)),
    ],
)
def test_modes_come_out_as_rgb(tmp_path, mode, colour, suffix, expected):
    image = load_image(save(tmp_path / f"x.{suffix}", mode, colour=colour))
    assert image.mode == "RGB"
    assert image.size == (20, 10)
    assert image.getpixel((3, 3)) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize(
    "orientation,size,corner",
    [(1, (20, 10), "red"), (3, (20, 10), "blue"), (6, (10, 20), "red"), (8, (10, 20), "blue")],
)
def test_exif_turns(tmp_path, orientation, size, corner):
    """The left half of the file is red, the right half blue; which colour is at the top left once
    it is turned?"""
    image, exif = Image.new("RGB", (20, 10), "blue"), Image.Exif()
    image.paste("red", (0, 0, 10, 10))
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    turned = load_image(tmp_path / "x.png")
    r, _, b = turned.getpixel((0, 0))
    assert turned.size == size
    assert ("red" if r > b else "blue") == corner


def test_what_has_no_one_meaning_is_refused_by_name(tmp_path):
    frames = [Image.new("L", (8, 8), c) for c in (0, 200)]
    for name in ("film.gif", "film.png", "film.webp", "pages.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tiff")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>log in</html>")
    whole = save(tmp_path / "whole.png", size=(300, 300), colour="tan")
    save(tmp_path / "cut.jpg", size=(300, 300))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-400])
    bad = sorted(set(tmp_path.iterdir()) - {whole})
    with pytest.raises(ValueError) as error:
        check_images([whole, *bad])
    lines = str(error.value).splitlines()
    assert lines[0] == "8 of 9 images cannot be used:"
    assert len(lines) == 9
    assert all(str(p) in str(error.value) for p in bad)
    assert "film.gif: it has 2 frames" in str(error.value)
    assert "mode F" in str(error.value)


def test_an_mpo_is_a_photograph(tmp_path):
    Image.new("RGB", (8, 8), "red").save(
        tmp_path / "x.mpo", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    )
    assert load_image(tmp_path / "x.mpo").getpixel((4, 4))[0] > 250


def test_folder_per_class(tmp_path):
    for c in ("kite", "auk", "emu", "jay"):
        [save(tmp_path / c / f"{n}.jpg") for n in (1, 2)]
    (tmp_path / "auk" / ".hidden.jpg").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "jay" / "Thumbs.db").write_text("x")
    images = get_dataset(str(tmp_path))
    assert images.classes == ("auk", "emu", "jay", "kite")
    assert len(images) == 8
    assert images.name == tmp_path.name
    assert [images.classes[c] for c in images.subset("train").label_n.unique()] == ["auk", "emu"]
    assert verify_dataset(str(tmp_path)) == 8


def test_folder_with_halves(tmp_path):
    for path in ("train/auk/1.png", "train/emu/deep/1.PNG", "test/jay/1.png"):
        save(tmp_path / path, format="PNG")
    images = load_folder(tmp_path)
    assert images.split_n == ("test", "train", "train")
    assert images.classes == ("auk", "emu", "jay")
    assert images.subset("test")[0].path.parent.name == "jay"


def test_folders_of_splits_and_links(tmp_path):
    for path in ("Train/auk/1.png", "val/emu/1.png", "TEST/jay/1.png"):
        save(tmp_path / "own" / path, format="PNG")
    save(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "own" / "val" / "kite").symlink_to(tmp_path / "elsewhere")
    images = load_folder(tmp_path / "own")
    assert sorted(images.split_n) == ["test", "train", "val", "val"]
    assert images.classes == ("auk", "emu", "jay", "kite")
    save(tmp_path / "own" / "more" / "owl" / "1.png")
    with pytest.raises(ValueError, match="folders of splits .* beside others .more."):
        load_folder(tmp_path / "own")


def test_a_folder_with_a_table_is_that_table(tmp_path):
    save(tmp_path / "masks" / "1.png")
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "1.png")
    (tmp_path / "images.csv").write_text(
        "path,label,split,mask\na/1.png,a,train,masks/1.png\nb/1.png,b,test,masks/1.png\n"
    )
    images = load_folder(tmp_path)
    assert images.classes == ("a", "b")
    assert images[1].metadata["mask"] == tmp_path / "masks" / "1.png"
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match="masks/1.png"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "files,message",
    [
        ([], "holds no image"),
        (["a.png", "b/1.png"], "1 images in .* lie in no folder of a class: a.png"),
        (["a/1.png"], "at least two classes"),
        (["a/1.png", "b/1.heic"], "1 of 2 images cannot be used.*1.heic"),
    ],
)
def test_folder_faults(tmp_path, files, message):
    for f in files:
        (
            save(tmp_path / f, format="PNG")
            if f.endswith("png")
            else (
                save(tmp_path / f, format="PNG"),
                (tmp_path / f).write_bytes(b"ftypheic"),
            )
        )
    with pytest.raises(ValueError, match="(?s)" + message):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "not a CSV table"),
        ("path,class\n1.png,a\n", "no column label, only path, class"),
        ("path,label\n", "lists no image"),
        ("path,label\n1.png,\n", "label is empty in line 2"),
        ("path,label,split\n1.png,a,train\n1.png,b,test\n", "1 paths are listed twice: 1.png"),
        ("path,label,box\n1.png,a,1 2 3\n2.png,b,1 2 3 4\n", "column box must hold numbers"),
        ("path,label,box\n1.png,a,1 2 3 x\n2.png,b,1 2 3 4\n", "column box must hold numbers"),
        ("path,label\n1.png,a\n2.png,a\n", "at least two classes"),
        ("path,label\n1.png,a,\n2.png,b,\n", "not a CSV table"),
        ("path,label\nx,1.png,a\ny,2.png,b\n", "not a CSV table"),
        ("path,label\n1.png,a\n\n./1.png,b\n", "twice: ./1.png"),
        ("path,label,box\n1.png,a,1 2 3 nan\n2.png,b,1 2 3 4\n", "some are not finite"),
        ("path,label,mask\n1.png,a,\n2.png,b,1.png\n", "mask is empty in line 2"),
        ("path,label\n\n1.png,a\n2.png,\n", "label is empty in line 4"),
    ],
)
def test_table_faults(tmp_path, text, message):
    for n in (1, 2):
        save(tmp_path / f"{n}.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_csv(tmp_path / "t.csv")


def test_table_names_missing_images(tmp_path):
    save(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text("path,label\n1.png,a\n2.png,b\n3.png,b\n")
    with pytest.raises(FileNotFoundError, match="2 of 3 images.*2.png, 3.png"):
        get_dataset(str(tmp_path / "t.csv"))


def test_a_table_with_checksums_of_ones_own(tmp_path):
    from diml_nb._internal.paths import hash_file

    for n in (1, 2):
        save(tmp_path / f"{n}.png", colour=(n, n, n))
    (tmp_path / "t.csv").write_text(
        "path,label,sha256\n"
        + "".join(f"{n}.png,{n},{hash_file(tmp_path / f'{n}.png')}\n" for n in (1, 2))
    )
    assert verify_dataset(str(tmp_path / "t.csv")) == 2
    save(tmp_path / "2.png", colour=(9, 9, 9))
    with pytest.raises(ValueError, match="1 of 2 images .* differ from their checksum: 2.png"):
        verify_dataset(str(tmp_path / "t.csv"))


def test_blanks_make_no_classes(tmp_path):
    save(tmp_path / "1.png")
    save(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("path,label,split\n1.png,a ,train\n2.png, a,train \n\n")
    assert load_csv(tmp_path / "t.csv").classes == ("a",)
    assert load_csv(tmp_path / "t.csv").split_n == ("train", "train")


def test_table_of_a_spreadsheet(tmp_path):
    "A byte order mark, umlauts, a comma in a label, blanks behind commas: what spreadsheets write."
    save(tmp_path / "über 1.png")
    save(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text(
        'path, label, split\n"über 1.png", "auk, great", train\n2.png, emu, val\n',
        encoding="utf-8-sig",
    )
    images = load_csv(tmp_path / "t.csv")
    assert images.classes == ("auk, great", "emu")
    assert images.split_n == ("train", "val")
    assert images.subset("val")[0].path.name == "2.png"


def test_own_images_can_be_trained_on(tmp_path, diml):
    "From a folder to a tested network by the command line, and a sheet of it."
    import subprocess
    import sys
    from pathlib import Path

    for split in ("train", "test"):
        for c in sorted({p.parent.name for p in get_dataset().subset(split).paths})[:6]:
            shutil.copytree(FOLDER / c, tmp_path / "own" / split / c)
    command = [
        str(Path(sys.executable).with_name("diml")),
        "train",
        "--dataset",
        str(tmp_path / "own"),
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--set",
        "embedding_dim=8",
        "--set",
        "validation=0",
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    tested = diml("evaluate", str(tmp_path / "run"), "--top-k", "5")
    assert tested.returncode == 0, tested.stderr[-2000:]
    assert "MAP@R" in tested.stdout, tested.stderr[-2000:]
    shown = diml("data", "show", str(tmp_path / "own"), "--out", str(tmp_path / "sheet.png"))
    assert shown.returncode == 0
    assert Image.open(tmp_path / "sheet.png").size == (6 * 84, 8 * 84)


def test_sheet_is_a_row_a_class():
    images = get_dataset()
    assert contact_sheet(images, rows=3, columns=4).size == (4 * 84, 3 * 84)
    assert contact_sheet(images, rows=500).height == 100 * 84
    single = images.select([0, 6, 12])  # classes of one image
    assert contact_sheet(single).size == (84, 3 * 84)
