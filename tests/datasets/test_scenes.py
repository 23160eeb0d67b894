"""Composed scenes: the same bytes each time, disjoint halves, and true correspondences, also of
real photographs."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.correspondences import true_correspondences
from diml_nb.datasets.dataset import Sample
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.registry import DATASETS, STAMP_FILES, get_dataset, verify_dataset
from diml_nb.datasets.scenes import SCENE_SIZE, cloud_background, compose_scene, crop_to_alpha
from diml_nb.features.backbones import get_backbone
from diml_nb.features.images import load_image

STAMPS = data_dir() / "stamps"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the embedded set and its scenes, and what stood there (`files`, `error`) when
    the first process that made them was killed in the middle of six hundred."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(data_dir() / "emoji", root / "emoji")
    command = [sys.executable, "-m", "diml_nb", "data", "fetch", "emoji_scenes", "--root", root]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def scenes():
        return len(list(root.glob(".emoji_scenes-*/new/*/*.png")))

    deadline = time.monotonic() + 60
    while scenes() < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert scenes() >= 20
    files = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    with pytest.raises(FileNotFoundError) as error:
        get_dataset("emoji_scenes", root=root)
    for left in root.glob(".emoji_scenes-*"):
        os.utime(left, (0, 0))  # what a dead process left is removed after a day
    subprocess.run(command, check=True, capture_output=True)
    return root, files, str(error.value)


@pytest.fixture
def root(killed):
    "A folder with the embedded set and its scenes; a network is not needed."
    return killed[0]


def test_killed_while_they_are_made(killed):
    "SIGKILL: no set, and the next call makes it and leaves nothing else."
    root, files, error = killed
    assert files == ["emoji"]
    assert "diml data fetch emoji_scenes" in error
    assert sorted(p.name for p in root.iterdir()) == ["emoji", "emoji_scenes"]


def test_emoji_scenes_are_those_of_the_records(root):
    images = get_dataset("emoji_scenes", root=root)
    assert images.hash == DATASETS["emoji_scenes"].hash
    assert verify_dataset("emoji_scenes", root=root) == 600
    assert all(
        Image.open(p).size == (SCENE_SIZE, SCENE_SIZE)
        for p in (*images.paths[:9], *images.metadata["mask"][:9])
    )
    side = pd.read_csv(root / "emoji" / "classes.csv").set_index("class").split
    assert images.split_n == tuple(side[p.parent.name] for p in images.paths)


def test_halves_share_neither_objects_nor_backgrounds(root):
    images = get_dataset("emoji_scenes", root=root)
    for values in (images.label_n.tolist(), images.metadata["background"]):
        train, test = (
            {v for v, s in zip(values, images.split_n, strict=True) if s == half}
            for half in ("train", "test")
        )
        assert train
        assert test
        assert not train & test


def test_table_and_files_are_of_one_making(root):
    "Scenes composed again from their names: picture, mask and matrix are those of the set."
    images, grounds = get_dataset("emoji_scenes", root=root), {}
    for n in range(0, 600, 37):
        x, split = images[n], images.split_n[n]
        cutout = crop_to_alpha(Image.open(root / "emoji" / x.path.parent.name / "noto.png"))
        half, k = x.metadata["background"].split("-")[1:]
        assert half == split
        ground = grounds.setdefault((half, k), cloud_background(random.Random(f"0 {half} {k}")))
        draw = random.Random(f"0 {x.path.parent.name} {int(x.path.stem)}")
        draw.choice(range(12))
        scene = compose_scene(cutout, ground, draw)
        assert scene.image.tobytes() == load_image(x.path).tobytes()
        assert scene.mask.tobytes() == Image.open(x.metadata["mask"]).tobytes()
        assert torch.allclose(scene.affine.float(), x.metadata["affine"], atol=1e-4)


def pixels(image):
    return (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(image.height, image.width, -1)
        .int()
    )


def test_outside_its_mask_a_scene_is_background():
    """The same draw with a black and with a white object: they differ where the mask says, and
    nowhere else."""
    for seed in range(20):
        black, white = (
            compose_scene(
                Image.new("RGBA", (60, 40), colour),
                cloud_background(random.Random(seed)),
                random.Random(seed),
            )
            for colour in ("black", "white")
        )
        mask = pixels(black.mask)[..., 0]
        differ = (pixels(black.image) - pixels(white.image)).abs().amax(2)
        assert torch.equal(pixels(white.mask)[..., 0], mask)
        assert (differ[mask == 0] == 0).all()
        assert (differ[mask == 255] > 100).all()


def test_a_corner_lies_where_the_matrix_says():
    square, off = Image.new("RGBA", (64, 64), "white"), []
    square.paste("red", (0, 0, 32, 32))
    for seed in range(40):
        scene = compose_scene(square, Image.new("RGB", (300, 300), "black"), random.Random(seed))
        r, g, _ = pixels(scene.image).unbind(2)
        red_p2 = ((r > 100) & (g < r / 2)).nonzero().flip(1) + 0.5
        if red_p2.min() > 1 and red_p2.max() < 223:
            off.append(
                (
                    red_p2.mean(0).double() - scene.affine @ torch.tensor([0.25, 0.25, 1]).double()
                ).norm()
            )
    assert len(off) > 25
    assert max(off) < 0.5


def test_the_flow_between_two_scenes_of_one_object(root):
    "The laws of a true flow, on every pair of scenes of ten classes."
    images = get_dataset("emoji_scenes", root=root)
    for c in range(10):
        some = (images.label_n == c).nonzero().flatten().tolist()
        for i in some:
            for j in some:
                found = true_correspondences(images[i], images[j], 7)
                rows = found.flow_nm.sum(1)
                assert (rows <= 1 + 1e-5).all()
                assert ((rows > 0) <= (found.coverage_n > 0)).all()
                assert (
                    (found.target_xy_n2 >= 0) & (found.target_xy_n2 < 7)
                    | found.target_xy_n2.isnan()
                ).all()
                assert (found.visible_n <= (found.coverage_n >= 0.5)).all()
                if i == j:
                    assert torch.allclose(
                        found.flow_nm, torch.diag((found.coverage_n > 0).float()), atol=1e-6
                    )


def test_a_picture_and_its_mirror_image(root):
    "Mirrored in whole, each cell is found at the other end of its row."
    a = get_dataset("emoji_scenes", root=root)[7]
    affine = a.metadata["affine"].double().clone()
    affine[0] = torch.tensor([0, 0, 224.0]) - affine[0]
    mask = root / "mirror.png"
    Image.open(a.metadata["mask"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mask)
    b = Sample(a.path, a.label, {"affine": affine, "mask": mask})
    found = true_correspondences(a, b, 7)
    n = found.visible_n.nonzero().flatten()
    assert len(n) > 3
    assert torch.equal(found.flow_nm[n].argmax(1), n - n % 7 + 6 - n % 7)
    back = true_correspondences(b, a, 7)
    assert torch.allclose(
        back.flow_nm.view(7, 7, 7, 7).flip(1, 3).reshape(49, 49), found.flow_nm, atol=1e-5
    )


@pytest.mark.parametrize("resize_ratio", [1.0, 256 / 224])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (240, 240)])
def test_parts_follow_the_view_of_the_network(tmp_path, size, resize_ratio):
    """A dot painted at a part is seen by `Backbone.preprocess` in the cell that
    `true_correspondences` names, or not at all."""
    backbone = get_backbone(pretrained=False)
    draw = random.Random(0)
    for _ in range(12):
        x, y = draw.uniform(12, size[0] - 12), draw.uniform(12, size[1] - 12)
        image = Image.new("RGB", size)
        image.paste("white", (round(x) - 3, round(y) - 3, round(x) + 3, round(y) + 3))
        image.save(tmp_path / "x.png")
        part = Sample(tmp_path / "x.png", 0, {"parts": torch.tensor([[round(x), round(y), 1.0]])})
        cells = (
            true_correspondences(part, part, 4, resize_ratio=resize_ratio)
            .coverage_n.nonzero()
            .flatten()
            .tolist()
        )
        bright_hw = (
            backbone.preprocess(load_image(tmp_path / "x.png"), resize_ratio=resize_ratio).mean(0)
            > 0.5
        )
        if cells:
            rows, columns = bright_hw.nonzero().float().mean(0).tolist()
            assert abs(rows / 56 - (cells[0] // 4 + 0.5)) < 0.55
            assert abs(columns / 56 - (cells[0] % 4 + 0.5)) < 0.55
        else:
            assert bright_hw.float().sum() < 40  # at most its edge


def test_faults(root):
    images = get_dataset("emoji_scenes", root=root)
    with pytest.raises(ValueError, match="different classes"):
        true_correspondences(images[0], images[599])
    with pytest.raises(ValueError, match="no correspondences are known"):
        true_correspondences(*(Sample(x.path, 0, {}) for x in (images[0], images[1])))
    for grid in (0, 7.0):
        with pytest.raises(ValueError, match="grid: expected a whole number"):
            true_correspondences(images[0], images[1], grid)
    with pytest.raises(ValueError, match="resize_ratio: expected a factor above 0"):
        true_correspondences(images[0], images[1], resize_ratio=0)
    bare = Sample(images[0].path, 0, {"affine": images[0].metadata["affine"]})
    with pytest.raises(ValueError, match="no correspondences are known"):
        true_correspondences(bare, bare)
    Image.new("L", (9, 9)).save(root / "small.png")
    with pytest.raises(ValueError, match="small.png has .9, 9. pixels, its picture .224, 224."):
        true_correspondences(
            Sample(images[0].path, 0, images[0].metadata | {"mask": root / "small.png"}), images[0]
        )
    few = [Sample(images[0].path, 0, {"parts": torch.ones(n, 3)}) for n in (2, 3)]
    with pytest.raises(ValueError, match="have 2 and 3 parts"):
        true_correspondences(*few)
    with pytest.raises(ValueError, match="transparent all over"):
        crop_to_alpha(Image.new("RGBA", (5, 5)))


def test_parts_of_a_turned_photograph(tmp_path):
    "EXIF turns the picture before its parts are looked up, as `load_image` does."
    image, exif = Image.new("RGB", (300, 200)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)  # 200 wide and 300 high once it is turned
    part = Sample(tmp_path / "x.jpg", 0, {"parts": torch.tensor([[100, 240, 1.0]])})
    assert true_correspondences(part, part, 4).coverage_n.nonzero().flatten().tolist() == [14]


def test_a_thing_of_one_pixel_and_a_thing_larger_than_its_scene():
    for size in ((1, 1), (1, 500), (4000, 3)):
        scene = compose_scene(
            Image.new("RGBA", size, "red"), cloud_background(random.Random(0)), random.Random(1)
        )
        assert scene.image.size == scene.mask.size == (SCENE_SIZE, SCENE_SIZE)
        assert scene.affine.isfinite().all()
    edge = Image.new("RGBA", (50, 50))
    edge.paste("red", (10, 20, 30, 25))
    assert crop_to_alpha(edge).size == (20, 5)


# the list of objects and backgrounds


def test_the_lists_are_whole():
    objects, grounds = (
        pd.read_csv(STAMPS / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("cutouts", "backgrounds")
    )
    assert len(objects) == 225
    assert len(grounds) == 40
    packages = {f.name.partition("_")[0] for f in STAMP_FILES}
    for rows, name in ((objects, "object"), (grounds, "background")):
        assert rows[name].is_unique
        assert rows.sha256.is_unique
        assert rows[name].str.fullmatch("[a-z0-9-]+").all()
        assert rows.sha256.str.fullmatch("[0-9a-f]{64}").all()
        assert abs((rows.split == "train").sum() - (rows.split == "test").sum()) <= 1
        assert set(rows.package) <= packages
    assert (grounds.licence != "").all()


@pytest.fixture(scope="session")
def debs(fetch_packages):
    "The Debian packages, fetched by apt-get."
    return fetch_packages(STAMP_FILES, "apt-get")


def test_stamp_scenes_from_the_packages(debs, tmp_path, monkeypatch):
    """Four objects and four backgrounds of the list, from the real packages; the scenes are those
    of the whole set."""
    (tmp_path / "stamps").mkdir()
    objects, grounds = (
        pd.read_csv(STAMPS / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("cutouts", "backgrounds")
    )
    pd.concat([objects[objects.split == s].head(2) for s in ("train", "test")]).to_csv(
        tmp_path / "stamps" / "cutouts.csv", index=False
    )
    pd.concat([grounds[grounds.split == s].head(2) for s in ("train", "test")]).to_csv(
        tmp_path / "stamps" / "backgrounds.csv", index=False
    )
    monkeypatch.setitem(
        DATASETS,
        "stamp_scenes",
        replace(DATASETS["stamp_scenes"], counts={"train": (20, 2), "test": (20, 2)}, hash=""),
    )
    prepare_dataset("stamp_scenes", root=tmp_path, archives=debs)
    images = get_dataset("stamp_scenes", root=tmp_path)
    assert true_correspondences(images[0], images[1]).coverage_n.sum() > 1
    before = images.hash
    prepare_dataset("stamp_scenes", root=tmp_path, archives=debs, fresh=True)
    assert get_dataset("stamp_scenes", root=tmp_path).hash == before


def test_a_changed_photograph_is_named(debs, tmp_path):
    shutil.copytree(STAMPS, tmp_path / "stamps")
    text = (tmp_path / "stamps" / "cutouts.csv").read_text().splitlines()
    fields = text[1].split(",")
    text[1] = ",".join([*fields[:4], "0" * 64])
    (tmp_path / "stamps" / "cutouts.csv").write_text("\n".join(text))
    with pytest.raises(
        ValueError,
        match=f"{fields[3]} of tuxpaint-stamps-default is not the file that cutouts.csv lists",
    ):
        prepare_dataset("stamp_scenes", root=tmp_path, archives=debs)
    assert [p.name for p in tmp_path.iterdir()] == ["stamps"]


@pytest.mark.skipif(
    not (data_dir() / "stamp_scenes").exists(),
    reason="the set is not here; `diml data fetch stamp_scenes` makes it",
)
def test_the_whole_set_that_was_fetched():
    images = get_dataset("stamp_scenes")
    assert (len(images), len(images.classes), images.hash) == (
        2250,
        225,
        DATASETS["stamp_scenes"].hash,
    )


def test_correspondences_load_no_archives():
    "explain and viz need the truth, not the code that fetches and unpacks."
    code = (
        "import sys, diml_nb.datasets.correspondences;"
        " print(*sorted(m for m in sys.modules if m.startswith('diml_nb.datasets.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["diml_nb.datasets.correspondences", "diml_nb.datasets.dataset"]
