"""Tables of images: separators, encodings, columns."""

import shutil

import pytest
from image_files import tree

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.folders import load_csv, load_folder
from diml_nb.datasets.registry import get_dataset


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
