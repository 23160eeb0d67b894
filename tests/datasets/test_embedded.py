"""The embedded images: counts, checksums, split; hashes of data sets and faults of named ones."""

import shutil
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.registry import DATASETS, get_dataset, verify_dataset

FOLDER = data_dir() / "emoji"


@pytest.fixture
def copy(tmp_path):
    "A root folder of its own with a copy of the embedded set."
    shutil.copytree(FOLDER, tmp_path / "root" / "emoji")
    return tmp_path / "root"


def test_counts():
    emoji = get_dataset()
    assert (len(emoji), len(emoji.classes), len(set(emoji.paths))) == (592, 100, 592)
    assert emoji.label_n.dtype == torch.int64
    assert set(emoji.label_n.bincount(minlength=100).tolist()) == {5, 6}
    assert Counter(p.stem for p in emoji.paths) == {
        "noto": 100,
        "noto-v1": 99,
        "fluent-emoji": 100,
        "fxemoji": 95,
        "twemoji": 100,
        "emojione": 98,
    }
    assert all(
        emoji.classes[label] == p.parent.name
        for label, p in zip(emoji.label_n, emoji.paths, strict=True)
    )


def test_folder_holds_what_is_listed():
    listed = set(pd.read_csv(FOLDER / "images.csv").path)
    assert {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.png")} == listed
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 2e6


def test_images():
    pictures = []
    for path in get_dataset().paths:
        image = Image.open(path).convert("RGBA")
        low, high = image.getchannel("A").getextrema()
        assert image.size == (128, 128), path
        assert high > 250, path
        pictures.append((low, image.tobytes()))
    assert len({pixels for _, pixels in pictures}) == 592  # no picture twice
    assert (
        sum(low == 0 for low, _ in pictures) > 550
    )  # alpha is kept; a few drawings fill their square


def test_checksums():
    assert verify_dataset() == 592
    assert get_dataset().hash == DATASETS["emoji"].hash


def test_attribution():
    rows = pd.read_csv(FOLDER / "images.csv", keep_default_na=False)
    assert not (rows == "").any().any()
    assert set(rows.licence) == {"Apache-2.0", "MIT", "CC-BY-4.0"}
    readme = (FOLDER / "README.md").read_text()
    assert all(author in readme for author in rows.author.unique())


def test_split_by_class():
    emoji = get_dataset()
    train, test = emoji.subset("train"), emoji.subset("test")
    a, b = set(train.label_n.tolist()), set(test.label_n.tolist())
    assert not a & b
    assert len(a) >= 45
    assert len(b) >= 45
    assert len(a | b) == 100
    assert len(train) + len(test) == len(emoji)
    assert all(
        test.classes[label] == p.parent.name
        for label, p in zip(test.label_n, test.paths, strict=True)
    )
    halves = pd.read_csv(FOLDER / "classes.csv").groupby(["category", "split"]).size().unstack()
    assert (halves.train == halves.test).all()


def test_classes_are_single_emoji():
    table = pd.read_csv(FOLDER / "classes.csv")
    assert table["class"].is_unique
    assert table.code_point.is_unique
    assert table.code_point.str.fullmatch("U[+][0-9A-F]{4,5}").all()
    number = table.code_point.str[2:].map(lambda digits: int(digits, 16))
    assert not number.between(0x1F1E6, 0x1F1FF).any()  # flags
    assert not number.between(0x1F3FB, 0x1F3FF).any()  # skin tones


def test_hash_does_not_depend_on_the_place(copy):
    assert get_dataset(root=copy).hash == get_dataset().hash
    assert (
        get_dataset(root=copy).subset("test").hash
        == get_dataset().subset("test").hash
        != get_dataset().hash
    )


def test_hash_sees_every_part(tmp_path):
    def made(first=b"1", label=(0, 1), split=("train", "test"), name="b"):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file, content in ((f"{name}.png", first), ("c.png", b"2")):
            (folder / file).write_bytes(content)
        return ImageDataset(
            "x", (folder / f"{name}.png", folder / "c.png"), torch.tensor(label), ("p", "q"), split
        ).hash

    assert made() == made()
    assert (
        len(
            {
                made(),
                made(first=b"3"),
                made(label=(1, 0)),
                made(split=("test", "train")),
                made(name="d"),
            }
        )
        == 5
    )


def test_hash_sees_numbers_and_files_of_metadata_but_no_texts(tmp_path):
    images = get_dataset().select([0, 1])
    for n in (1, 2):
        (tmp_path / f"{n}.png").write_bytes(b"%d" % n)
    masks = [
        replace(images, metadata={"mask": (tmp_path / f"{a}.png", tmp_path / f"{b}.png")}).hash
        for a, b in ((1, 2), (2, 1))
    ]
    boxes = [replace(images, metadata={"box": torch.full((2, 4), x)}).hash for x in (1.0, 2.0)]
    assert len({images.hash, *masks, *boxes}) == 5
    assert replace(images, metadata={"licence": ("MIT", "MIT")}).hash == images.hash


def test_select_keeps_all_in_step():
    images = replace(
        get_dataset(),
        metadata={"row": torch.arange(592.0), "name": tuple(p.stem for p in get_dataset().paths)},
    )
    some = images.select(torch.tensor([5, 300, 2]))
    assert [some[i].path for i in range(3)] == [images.paths[n] for n in (5, 300, 2)]
    assert some.classes == images.classes
    assert [float(some[i].metadata["row"]) for i in range(3)] == [5, 300, 2]
    assert some[1].metadata["name"] == images.paths[300].stem
    assert images.subset("test").metadata["row"].tolist() == [
        n for n, s in enumerate(images.split_n) if s == "test"
    ]


def test_select_by_a_mask():
    images = get_dataset()
    some = images.select(images.label_n == 3)
    assert len(some) == len(some.label_n) == 6
    assert set(some.label_n.tolist()) == {3}
    assert {p.parent.name for p in some.paths} == {images.classes[3]}


def test_unknown_split():
    with pytest.raises(ValueError, match="no split 'val'.*test.*train"):
        get_dataset().subset("val")


def test_unknown_name():
    for call in (get_dataset, verify_dataset):
        with pytest.raises(ValueError, match="known: emoji.*your own images"):
            call("birds")


@pytest.mark.parametrize("name", DATASETS)
def test_missing_set_says_how_to_get_it(tmp_path, name):
    with pytest.raises(
        FileNotFoundError, match=f"{DATASETS[name].part_of or name}/images.csv.*is missing"
    ) as error:
        get_dataset(name, root=tmp_path)
    assert ("git checkout" if name == "emoji" else f"`diml data fetch {name}`") in str(error.value)


def test_missing_image_is_named(copy):
    (copy / "emoji" / "owl" / "noto.png").unlink()
    for call in (get_dataset, verify_dataset):
        with pytest.raises(FileNotFoundError, match="1 of 592.*owl/noto.png"):
            call(root=copy)


def test_tampered_image_is_named(copy):
    path = copy / "emoji" / "bus" / "twemoji.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="1 of 592.*bus/twemoji.png"):
        verify_dataset(root=copy)


def test_a_shortened_or_relabelled_table_is_noticed(copy):
    table = copy / "emoji" / "images.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(rows[:101]))
    with pytest.raises(ValueError, match="emoji: expected .images, classes. .*296, 50.*got"):
        verify_dataset(root=copy)
    first = rows[1].split(",")
    table.write_text(
        "".join([rows[0], ",".join([first[0], "bus", *first[2:]]), *rows[2:]])
    )  # an ant that is called a bus
    with pytest.raises(
        ValueError, match="emoji differs from the set of the records .hash .*--fresh"
    ):
        verify_dataset(root=copy)


def test_sources_are_complete():
    for name, source in DATASETS.items():
        assert source.title, name
        assert source.licence, name
        assert source.split, name
        assert source.counts, name
        for file in source.files:
            assert "/" not in file.name, (name, file)
            # of a repository each file has its checksum, in a list of its own
            known = file.checksum.startswith(("sha256:", "md5:")) or file.folder
            assert known or not file.urls, (name, file)
    assert sum(n for n, _ in DATASETS["emoji_vendors"].counts.values()) >= 8000
    assert sum(c for _, c in DATASETS["emoji_vendors"].counts.values()) >= 1111
    assert {
        name: s.counts for name, s in DATASETS.items() if name in ("cub", "cars", "sop", "inshop")
    } == {
        "cub": {"train": (5864, 100), "test": (5924, 100)},
        "cars": {"train": (8054, 98), "test": (8131, 98)},
        "sop": {"train": (59551, 11318), "test": (60502, 11316)},
        "inshop": {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)},
    }
