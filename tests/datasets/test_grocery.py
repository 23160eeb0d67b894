"""Photographs of groceries: each photograph is verified, and queries and gallery are of different
parts."""

import shutil
import zipfile
from dataclasses import replace

import pandas as pd
import pytest
from image_files import encoded_image

from diml_nb._internal.paths import data_dir, hash_bytes
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.protocol import make_protocol
from diml_nb.datasets.registry import DATASETS, get_dataset, verify_dataset

LISTS = data_dir() / "photographs"
KINDS = {"Kiwi": "Fruit/Kiwi", "Anjou": "Fruit/Pear/Anjou", "Conference": "Fruit/Pear/Conference"}
PARTS = ("train", "train", "val", "test")
ARCHIVE = DATASETS["grocery"].files[0].name


def photographs():
    "Path -> bytes: of three classes, two photographs of the official train, one of val and test."
    return {
        f"{part}/{place}/{kind}_{n}.jpg": encoded_image(len(kind) + 10 * n)
        for kind, place in KINDS.items()
        for n, part in enumerate(PARTS)
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    "A folder of data sets with the lists of the photographs above, and their counts."
    folder = tmp_path / "data"
    (folder / "photographs").mkdir(parents=True)
    lines = [f"{path},{hash_bytes(content)}" for path, content in photographs().items()]
    (folder / "photographs/grocery.csv").write_text("\n".join(["path,sha256", *lines]))
    shutil.copy(LISTS / "grocery_classes.csv", folder / "photographs")
    classes = pd.read_csv(LISTS / "grocery_classes.csv").set_index("class").split
    halves = {split: sum(classes[kind] == split for kind in KINDS) for split in ("train", "test")}
    counts = {split: (4 * n, n) for split, n in halves.items() if n}
    for name, expected in (
        ("grocery", counts),
        ("grocery_known", {"train": (9, 3), "test": (3, 3)}),
    ):
        spec = replace(DATASETS[name], counts=expected, hash="")
        monkeypatch.setitem(DATASETS, name, spec)
    return folder


def clone(folder, content):
    "A clone of the repository in a folder of archives."
    for path, data in content.items():
        file = folder / "GroceryStoreDataset" / "dataset" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


@pytest.mark.parametrize("as_archive", [False, True])
def test_a_clone_and_the_archive_of_the_commit_give_the_same_set(root, tmp_path, as_archive):
    archives = clone(tmp_path / "archives", photographs())
    if as_archive:
        with zipfile.ZipFile(tmp_path / "archives" / ARCHIVE, "w") as file:
            for path, data in photographs().items():
                file.writestr(f"{ARCHIVE.removesuffix('.zip')}/dataset/{path}", data)
        shutil.rmtree(archives / "GroceryStoreDataset")
    folder = prepare_dataset("grocery", root=root, archives=archives)
    assert {path.name for path in folder.iterdir()} == {"images.csv", "train", "val", "test"}
    assert verify_dataset("grocery", root=root) == 12


def test_both_sets_are_one_folder(root, tmp_path):
    archives = clone(tmp_path / "archives", photographs())
    assert prepare_dataset("grocery_known", root=root, archives=archives).name == "grocery"
    assert prepare_dataset("grocery", root=root, archives=tmp_path / "none").name == "grocery"
    assert verify_dataset("grocery_known", root=root) == 12


def test_a_query_is_of_another_part_than_the_gallery(root, tmp_path):
    prepare_dataset("grocery", root=root, archives=clone(tmp_path / "archives", photographs()))
    for name in ("grocery", "grocery_known"):
        protocol = make_protocol(get_dataset(name, root=root))
        sides = (protocol.queries, protocol.gallery)
        asked, shown = (set(images.metadata["official_split"]) for images in sides)
        assert shown == {"train"}
        assert asked == ({"val", "test"} if name == "grocery" else {"test"})


def test_known_classes_give_no_warning(root, tmp_path, recwarn):
    prepare_dataset("grocery", root=root, archives=clone(tmp_path / "archives", photographs()))
    verify_dataset("grocery_known", root=root)
    assert not [
        str(w.message) for w in recwarn if "are in train and in another split" in str(w.message)
    ]


MISSING, CHANGED = "val/Fruit/Kiwi/Kiwi_2.jpg", "test/Fruit/Pear/Anjou/Anjou_3.jpg"


@pytest.mark.parametrize(
    "change, message",
    [
        ({MISSING: None}, f"1 are missing: {MISSING}"),
        ({CHANGED: b"cut"}, f"1 are other than their checksum: {CHANGED}"),
        (
            {"train/Fruit/Fig/Fig_1.jpg": b"a fig"},
            "1 are not in photographs/grocery.csv: train/Fruit/Fig",
        ),
    ],
)
def test_a_photograph_that_is_missing_changed_or_extra_is_named(root, tmp_path, change, message):
    content = {k: v for k, v in (photographs() | change).items() if v is not None}
    archives = clone(tmp_path / "archives", content)
    with pytest.raises(ValueError, match=message):
        prepare_dataset("grocery", root=root, archives=archives)
    assert [path.name for path in root.iterdir()] == ["photographs"]


def test_a_folder_that_is_no_copy_is_refused(root, tmp_path):
    (tmp_path / "archives" / "GroceryStoreDataset").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no folder dataset"):
        prepare_dataset("grocery", root=root, archives=tmp_path / "archives")


def test_no_coarse_class_is_in_both_halves():
    classes = pd.read_csv(LISTS / "grocery_classes.csv")
    assert len(classes) == 81
    assert (classes.groupby("coarse").split.nunique() == 1).all()
    assert len(pd.read_csv(LISTS / "grocery.csv")) == 5421


def test_a_folder_of_ones_own_is_not_replaced(root, tmp_path):
    "The folder dataset of the repository has a classes.csv, as the list of the emoji has."
    (root / "grocery").mkdir()
    (root / "grocery" / "classes.csv").write_text("mine")
    with pytest.raises(OSError, match="is not a set that was made here; move it away"):
        prepare_dataset("grocery", root=root, archives=clone(tmp_path / "archives", photographs()))
    assert (root / "grocery" / "classes.csv").read_text() == "mine"


def test_a_bad_archive_is_named(root, tmp_path):
    (tmp_path / "archives").mkdir()
    with zipfile.ZipFile(tmp_path / "archives" / ARCHIVE, "w") as file:
        file.writestr("another/dataset/train/x.jpg", b"x")
    with pytest.raises(ValueError, match=f"{ARCHIVE} is not what was published.*Delete it"):
        prepare_dataset("grocery", root=root, archives=tmp_path / "archives")


def test_both_lists_are_asked_for_before_anything_is_fetched(root, tmp_path):
    (root / "photographs/grocery_classes.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"grocery_classes.csv is missing: it lists"):
        prepare_dataset("grocery", root=root, archives=tmp_path / "none")
