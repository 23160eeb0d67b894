"""The classic benchmarks on small archives of their published layout, with the published counts
scaled down; a data set never half exists."""

import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from image_files import encoded_image, pack
from PIL import Image
from scipy.io import savemat

from diml_nb._internal.download import RemoteFile
from diml_nb._internal.paths import hash_file
from diml_nb.datasets.correspondences import true_correspondences
from diml_nb.datasets.prepare import BUILDERS, prepare_dataset
from diml_nb.datasets.registry import DATASETS, get_dataset, verify_dataset


def cub(folder):
    "Four classes of three birds; the third is hidden but for its beak."
    names = ["001.Auk", "002.Blue_Jay", "003.Coot", "004.Red_faced_Emu"]
    ids = [
        (i, c, f"{names[c]}/{names[c][4:].title()}_{i:04}.jpg")
        for i, c in enumerate(np.repeat(range(4), 3).tolist(), 1)
    ]
    top, lines = "CUB_200_2011/", lambda form: "".join(form(*x) + "\n" for x in ids)

    def seen(i, p):
        return i % 3 != 0 or p == 2

    parts = "".join(
        f"{i} {p} {float(10 + p + i) if seen(i, p) else 0.0} {float(5 + p) if seen(i, p) else 0.0}"
        f" {int(seen(i, p))}\n"
        for i, _, _ in ids
        for p in range(1, 16)
    )
    pack(
        folder / "CUB_200_2011.tgz",
        {
            top + "images.txt": lines(lambda i, c, p: f"{i} {p}"),
            top + "image_class_labels.txt": lines(lambda i, c, p: f"{i} {c + 1}"),
            top + "classes.txt": "".join(f"{c + 1} {n}\n" for c, n in enumerate(names)),
            top + "train_test_split.txt": lines(lambda i, c, p: f"{i} {i % 2}"),
            top + "bounding_boxes.txt": lines(lambda i, c, p: f"{i} {i}.0 2.0 30.0 25.0"),
            top + "parts/part_locs.txt": parts,
            "attributes.txt": "1 has\n",
            top + "README": "birds",
            **{f"{top}images/{p}": encoded_image(i) for i, _, p in ids},
        },
    )
    return {"train": (6, 2), "test": (6, 2)}


def cars(folder):
    "Three cars of each of four models, in no order."
    cars = np.zeros(
        12,
        dtype=[
            (k, object)
            for k in (
                "relative_im_path",
                "bbox_x1",
                "bbox_y1",
                "bbox_x2",
                "bbox_y2",
                "class",
                "test",
            )
        ],
    )
    for n in range(12):
        cars[n] = (f"car_ims/{n + 1:06}.jpg", 4, 3, 50, 33 + n % 3, n % 4 + 1, n % 2)
    savemat(
        folder / "cars_annos.mat",
        {
            "annotations": cars[None],
            "class_names": np.array(
                [["AM General Hummer", "Audi S4", "Ram C/V Cargo Van", "smart fortwo"]],
                dtype=object,
            ),
        },
    )
    pack(folder / "car_ims.tgz", {f"car_ims/{n + 1:06}.jpg": encoded_image(n) for n in range(12)})
    return {"train": (6, 2), "test": (6, 2)}


def sop(folder):
    rows = [
        (
            n + 1,
            n // 2 + 1,
            n // 4 + 1,
            f"{('bicycle', 'coffee_maker')[n // 4]}_final/1110{n // 2}_{n % 2}.JPG",
        )
        for n in range(8)
    ]

    def table(some):
        return "image_id class_id super_class_id path\n" + "".join(
            " ".join(map(str, row)) + "\n" for row in some
        )

    top = "Stanford_Online_Products/"
    pack(
        folder / "Stanford_Online_Products.zip",
        {
            top + "Ebay_train.txt": table(rows[:4]),
            top + "Ebay_test.txt": table(rows[4:]),
            top + "Ebay_info.txt": table(rows),
            top + "bicycle_final.txt": "x",
            **{top + path: encoded_image(i) for i, _, _, path in rows},
        },
    )
    return {"train": (4, 2), "test": (4, 2)}


def inshop(folder):
    rows = [
        (f"img/WOMEN/Dresses/id_{i:08}/0{k}_{k}_front.jpg", f"id_{i:08}", s)
        for i, halves in (
            (1, ("train",) * 2),
            (2, ("train",) * 3),
            (3, ("query", "gallery")),
            (4, ("query", "query", "gallery")),
        )
        for k, s in enumerate(halves)
    ]
    (folder / "list_eval_partition.txt").write_text(
        "10\nimage_name item_id evaluation_status\n"
        + "".join(f"{p:<60}{i} {s:<10}\n" for p, i, s in rows)
    )
    (folder / "list_bbox_inshop.txt").write_text(
        "10\nimage_name clothes_type pose_type x_1 y_1 x_2 y_2\n"
        + "".join(f"{p:<60}3 1 010 004 050 039\n" for p, *_ in rows)
    )
    pack(
        folder / "img.zip",
        {"img/": b"", **{p: encoded_image(n, size=(64, 64)) for n, (p, *_) in enumerate(rows)}},
    )
    return {"train": (5, 2), "query": (3, 2), "gallery": (2, 2)}


CLASSIC = {"cub": cub, "cars": cars, "sop": sop, "inshop": inshop}


@pytest.fixture
def write_archives(tmp_path, monkeypatch):
    """Write the archives of a benchmark and describe them in DATASETS: counts and checksums of
    these small ones. Returns the root and the archives."""
    root, archives = tmp_path / "root", tmp_path / "archives"
    root.mkdir()
    archives.mkdir()

    def make(name, **changes):
        counts = CLASSIC[name](archives)
        files = tuple(
            f._replace(
                urls=(), checksum=f"sha256:{hash_file(archives / f.name)}" if f.checksum else ""
            )
            for f in DATASETS[name].files
        )
        monkeypatch.setitem(
            DATASETS, name, replace(DATASETS[name], **dict(files=files, counts=counts) | changes)
        )
        return root, archives

    return make


@pytest.mark.parametrize("name", CLASSIC)
def test_layout(write_archives, name):
    root, archives = write_archives(name)
    prepare_dataset(name, root=root, archives=archives)
    images = get_dataset(name, root=root)
    expected = DATASETS[name].counts
    assert {
        s: (images.split_n.count(s), len(images.subset(s).label_n.unique()))
        for s in set(images.split_n)
    } == expected
    assert verify_dataset(name, root=root) == len(images) == sum(n for n, _ in expected.values())
    assert [p.name for p in root.iterdir()] == [name]
    assert set(images.subset("train").label_n.tolist()).isdisjoint(
        images.label_n[[i for i, s in enumerate(images.split_n) if s != "train"]].tolist()
    )
    assert all(Image.open(p).format == "JPEG" for p in images.paths)


def test_cub_boxes_parts_and_correspondences(write_archives):
    root, archives = write_archives("cub")
    images = get_dataset("cub", root=prepare_dataset("cub", root=root, archives=archives).parent)
    assert images.classes == ("001.Auk", "002.Blue_Jay", "003.Coot", "004.Red_faced_Emu")
    assert images.split_n == ("train",) * 6 + ("test",) * 6  # not train_test_split.txt
    assert images[4].metadata["box"].tolist() == [5, 2, 30, 25]
    assert images.metadata["parts"].shape == (12, 15, 3)
    assert images[0].metadata["parts"][14].tolist() == [26, 20, 1]
    assert images[2].metadata["parts"][0].tolist() == [0, 0, 0]
    found = true_correspondences(images[0], images[1], 7)
    assert found.visible_n.sum() > 2
    assert found.flow_nm.sum() == pytest.approx(
        found.coverage_n.sum()
    )  # every part of the first is seen in the second
    assert true_correspondences(images[0], images[2], 7).visible_n.sum() <= 1  # only the beak


def test_cars_names_and_boxes(write_archives):
    root, archives = write_archives("cars")
    images = get_dataset("cars", root=prepare_dataset("cars", root=root, archives=archives).parent)
    assert images.classes == ("001", "002", "003", "004")
    assert images[6].metadata["model"] == "Ram C/V Cargo Van"
    assert images[0].metadata["box"].tolist() == [4, 3, 46, 30]
    assert [p.name for p in images.paths[:3]] == ["000001.jpg", "000005.jpg", "000009.jpg"]


def test_sop_and_inshop(write_archives):
    root, archives = write_archives("sop")
    images = get_dataset("sop", root=prepare_dataset("sop", root=root, archives=archives).parent)
    assert images.classes == ("1", "2", "3", "4")
    assert images[7].metadata["category"] == "coffee_maker"
    write_archives("inshop")
    shop = get_dataset(
        "inshop", root=prepare_dataset("inshop", root=root, archives=archives).parent
    )
    assert set(shop.subset("query").label_n.tolist()) == set(
        shop.subset("gallery").label_n.tolist()
    )
    assert shop[0].metadata["box"].tolist() == [10, 4, 40, 35]


# what may be wrong


@pytest.mark.parametrize("name", CLASSIC)
def test_wrong_counts(write_archives, name):
    root, archives = write_archives(name, counts=DATASETS[name].counts)  # the published ones
    with pytest.raises(
        ValueError,
        match=f"{name}: expected .images, classes.*{DATASETS[name].counts['train'][0]}.*got",
    ):
        prepare_dataset(name, root=root, archives=archives)
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", ["cub", "cars", "sop"])
def test_wrong_checksum(tmp_path, name, monkeypatch):
    (tmp_path / "root").mkdir()
    CLASSIC[name](tmp_path)
    monkeypatch.setattr(
        "diml_nb.datasets.prepare.extract_archive", lambda *a, **k: pytest.fail("it was opened")
    )
    with pytest.raises(ValueError, match="md5 is .* expected"):
        prepare_dataset(name, root=tmp_path / "root", archives=tmp_path)
    assert not list((tmp_path / "root").iterdir())


def test_a_bomb(write_archives):
    root, archives = write_archives("cub", unpacked=3000)
    with pytest.raises(ValueError, match="CUB_200_2011.tgz: more than the 3,000 bytes"):
        prepare_dataset("cub", root=root, archives=archives)
    assert not list(root.iterdir())


def test_an_image_that_the_lists_name_is_not_there(write_archives, monkeypatch):
    root, archives = write_archives("sop")
    with zipfile.ZipFile(archives / "Stanford_Online_Products.zip") as z:
        members = {n: z.read(n) for n in z.namelist() if not n.endswith("11102_1.JPG")}
    pack(archives / "Stanford_Online_Products.zip", members)
    monkeypatch.setitem(
        DATASETS,
        "sop",
        replace(DATASETS["sop"], files=(RemoteFile("Stanford_Online_Products.zip"),)),
    )
    with pytest.raises(
        ValueError, match="1 images of its lists are not in its archive: .*11102_1.JPG"
    ):
        prepare_dataset("sop", root=root, archives=archives)
    assert not list(root.iterdir())


def test_a_list_that_leads_out_of_the_folder(write_archives, monkeypatch):
    root, archives = write_archives("inshop")
    for name in ("list_eval_partition.txt", "list_bbox_inshop.txt"):
        text = (
            (archives / name)
            .read_text()
            .replace("img/WOMEN/Dresses/id_00000001/00_0_front.jpg", "../../secret.jpg")
        )
        (archives / name).write_text(text)
    with pytest.raises(ValueError, match="secret.jpg.*leave"):
        prepare_dataset("inshop", root=root, archives=archives)


def test_lists_that_disagree(write_archives):
    root, archives = write_archives("cub")
    with tarfile.open(archives / "CUB_200_2011.tgz") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    members["CUB_200_2011/image_class_labels.txt"] = members[
        "CUB_200_2011/image_class_labels.txt"
    ].replace(b"\n2 1\n", b"\n")
    pack(archives / "CUB_200_2011.tgz", members)
    DATASETS["cub"] = replace(DATASETS["cub"], files=(RemoteFile("CUB_200_2011.tgz"),))
    with pytest.raises(ValueError, match="cub: expected"):
        prepare_dataset("cub", root=root, archives=archives)


def test_inshop_must_be_placed_by_hand(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(
        OSError,
        match=(
            "img.zip: its owners send it on request: ask them for it and place it at"
            " .*archives/img.zip"
        ),
    ) as error:
        prepare_dataset("inshop", root=tmp_path / "root", archives=tmp_path / "archives")
    assert all(
        file.name in str(error.value) for file in DATASETS["inshop"].files
    )  # all that are missing, at once


def test_images_without_a_checksum_are_read(write_archives):
    root, archives = write_archives("inshop")
    with zipfile.ZipFile(archives / "img.zip") as z:
        names = [n for n in z.namelist() if n.endswith(".jpg")]
    pack(archives / "img.zip", {n: b"<html>log in</html>" for n in names})
    with pytest.raises(ValueError, match="10 of 10 images cannot be used"):
        prepare_dataset("inshop", root=root, archives=archives)
    assert not list(root.iterdir())


def test_what_cannot_be_loaded_again_does_not_take_the_place(write_archives):
    root, archives = write_archives("cub")
    prepare_dataset("cub", root=root, archives=archives)
    before = get_dataset("cub", root=root).hash
    with tarfile.open(archives / "CUB_200_2011.tgz") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    lines = members["CUB_200_2011/parts/part_locs.txt"].splitlines(keepends=True)
    members["CUB_200_2011/parts/part_locs.txt"] = b"".join(lines[:7] + lines[8:])
    pack(archives / "CUB_200_2011.tgz", members)
    DATASETS["cub"] = replace(DATASETS["cub"], files=(RemoteFile("CUB_200_2011.tgz"),))
    with pytest.raises(ValueError, match="column parts must hold numbers"):
        prepare_dataset("cub", root=root, archives=archives, fresh=True)
    assert get_dataset("cub", root=root).hash == before


def test_a_folder_of_somebody_else_is_not_replaced(write_archives):
    root, archives = write_archives("sop")
    (root / "sop").mkdir()
    (root / "sop" / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="sop holds files but no images.csv"):
        prepare_dataset("sop", root=root, archives=archives)
    assert (root / "sop" / "notes.txt").read_text() == "mine"


def test_a_link_to_another_disk_stays_one(write_archives, tmp_path):
    root, archives = write_archives("sop")
    (tmp_path / "disk").mkdir()
    (root / "sop").symlink_to(tmp_path / "disk")
    prepare_dataset("sop", root=root, archives=archives)
    assert (root / "sop").is_symlink()
    assert (tmp_path / "disk" / "images.csv").exists()
    assert verify_dataset("sop", root=root) == 8


def test_an_old_set_is_brought_back_after_a_crash_between_two_renamings(write_archives):
    root, archives = write_archives("sop")
    prepare_dataset("sop", root=root, archives=archives)
    (root / ".sop-killed").mkdir()
    (root / "sop").rename(root / ".sop-killed" / "old")
    DATASETS["sop"] = replace(
        DATASETS["sop"], files=(RemoteFile("not-to-be-had.zip"),)
    )  # offline: it cannot be made again
    prepare_dataset("sop", root=root, archives=archives)
    assert verify_dataset("sop", root=root) == 8


def test_unknown_and_missing_lists(tmp_path):
    with pytest.raises(ValueError, match="cannot fetch 'birds'; known: emoji"):
        prepare_dataset("birds", root=tmp_path)
    for name in ("emoji", "emoji_vendors", "emoji_scenes", "stamp_scenes"):
        with pytest.raises(
            FileNotFoundError, match="it lists what to make and is part of the repository"
        ):
            prepare_dataset(name, root=tmp_path)


def test_every_source_can_be_made():
    made = {spec.part_of or name for name, spec in DATASETS.items()}
    assert BUILDERS.keys() == made


def test_there_and_whole_is_left_alone(write_archives, monkeypatch):
    root, archives = write_archives("sop")
    prepare_dataset("sop", root=root, archives=archives)
    monkeypatch.setattr(
        "diml_nb.datasets.prepare.fetch_file", lambda *a, **k: pytest.fail("it was fetched again")
    )
    prepare_dataset("sop", root=root, archives=archives)


@pytest.mark.parametrize("harm", ["gone", "changed", "half a table"])
def test_not_whole_is_made_again(write_archives, harm):
    root, archives = write_archives("sop")
    prepare_dataset("sop", root=root, archives=archives)
    before, victim = get_dataset("sop", root=root).hash, get_dataset("sop", root=root).paths[3]
    if harm == "gone":
        victim.unlink()
    elif harm == "changed":
        victim.write_bytes(encoded_image(200))
    else:
        (root / "sop" / "images.csv").write_text(
            "".join((root / "sop" / "images.csv").read_text().splitlines(keepends=True)[:5])
        )
    prepare_dataset("sop", root=root, archives=archives)
    assert get_dataset("sop", root=root).hash == before


def test_from_the_command_line(write_archives, tmp_path, diml):
    "A set placed by hand: fetch, verify, list, show."
    root, archives = write_archives("inshop")
    for words, expected in (
        (("fetch", "inshop", "--archives", str(archives)), f"inshop is at {root / 'inshop'}"),
        (("verify", "inshop"), "10 images verified"),
        (("list",), "10 images  In-Shop Clothes Retrieval (DeepFashion), with a box  [here]"),
        (("show", "inshop", "--out", str(tmp_path / "s.png")), "query: 3 images, 2 classes"),
    ):
        done = diml("data", *words, "--root", root)
        assert done.returncode == 0, (words, done.stdout, done.stderr[-2000:])
        assert expected in done.stdout, (words, done.stdout, done.stderr[-2000:])
    assert Image.open(tmp_path / "s.png").height == 4 * 84
