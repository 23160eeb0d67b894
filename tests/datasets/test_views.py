"""Photographs from two viewpoints: maps from disparities and homographies, their files, the set
`real_views` from its packages, and the truth that it gives for cells."""

import io
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diml_nb._internal.download import RemoteFile
from diml_nb._internal.paths import data_dir, hash_bytes, hash_file
from diml_nb.datasets.archives import read_listed
from diml_nb.datasets.correspondences import read_correspondence_map, true_correspondences
from diml_nb.datasets.dataset import Sample
from diml_nb.datasets.folders import load_csv
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.registry import DATASETS, VIEW_FILES, get_dataset, verify_dataset
from diml_nb.datasets.views import (
    build_real_views,
    homography_views,
    stereo_views,
    warp_view,
    write_views,
)

LISTED = data_dir() / "photographs" / "real_views.csv"


def random_disparity(seed: int) -> torch.Tensor:
    "(6, 40) surfaces of few columns each, some not measured."
    rng = torch.Generator().manual_seed(seed)
    surfaces = torch.randint(0, 9, (6, 8), generator=rng) + torch.rand(6, 8, generator=rng)
    disparity = surfaces.repeat_interleave(5, dim=1)
    return disparity.where(torch.rand(6, 40, generator=rng) < 0.9, torch.nan)


def slow_to_right(row: list[float]) -> list[float]:
    "Where each pixel of one row lies on the right, by comparing it with all others."
    landing = [None if d != d else round(x - d) for x, d in enumerate(row)]
    places = []
    for x, d in enumerate(row):
        nearer = [e for e, place in zip(row, landing) if place == landing[x] and e > d + 1]
        if landing[x] is None:
            places.append(float("nan"))
        elif nearer or not 0 <= landing[x] < len(row):
            places.append(float("inf"))
        else:
            places.append(x - d + 0.5)
    return places


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def write_pair(folder: Path, maps, *, size=(64, 48)) -> list[Sample]:
    "Two pictures of noise with the given maps, as samples of a table."
    content = png(noise(*size))
    rows = write_views(folder / "thing", {"a.png": content, "b.png": content}, maps)
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    images = load_csv(folder / "images.csv", check=False, name="pair")
    return [images[0], images[1]]


def shift_by(x: float, y: float, *, size=(64, 48)):
    "The maps of a picture that is moved by x and y pixels."
    matrix = torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)
    return homography_views(matrix, size, size)


@pytest.mark.parametrize("seed", range(5))
def test_hidden_points_by_comparing_all(seed):
    disparity = random_disparity(seed)
    to_right, to_left = stereo_views(disparity)
    slow = torch.tensor([slow_to_right(row) for row in disparity.double().tolist()])
    torch.testing.assert_close(to_right[..., 0], slow.float(), equal_nan=True)
    assert to_right.isinf().any()
    # a row stays a row
    shown = to_right.isfinite().all(2)
    rows = (torch.arange(6) + 0.5)[:, None].expand(6, 40)
    assert torch.equal(to_right[..., 1][shown], rows[shown])
    back = to_left.isfinite().all(2)
    assert torch.equal(to_left[..., 1][back], rows[back])
    assert not to_left.isinf().any()


@pytest.mark.parametrize("seed", range(5))
def test_there_and_back_is_the_same_surface(seed):
    to_right, to_left = stereo_views(random_disparity(seed))
    rows, columns = to_right.isfinite().all(2).nonzero(as_tuple=True)
    place = to_right[rows, columns, 0].double() - 0.5
    back = to_left[rows, place.round().long(), 0]
    # half a pixel of rounding, and surfaces within a pixel of disparity
    assert (back - (columns + 0.5)).abs().max() <= 1.5 + 1e-4


def test_a_wall_hides_nothing():
    to_right, to_left = stereo_views(torch.full((2, 9), 3.0))
    assert to_right[0, :, 0].tolist() == [torch.inf] * 3 + [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert to_left[1, :6, 0].tolist() == [3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
    assert to_left[1, 6:].isnan().all()
    with pytest.raises(ValueError, match="disparity_hw"):
        stereo_views(torch.zeros(3))


def test_a_homography_is_undone_by_its_inverse():
    matrix = torch.tensor([[0.8, -0.3, 20.0], [0.3, 1.0, -6.0], [0.002, -0.001, 1.0]]).double()
    to_b, to_a = homography_views(matrix, (60, 40), (50, 70))
    assert to_b.shape == (40, 60, 2)
    assert to_a.shape == (70, 50, 2)
    point = torch.linalg.inv(matrix) @ torch.tensor([30.0, 20.0, 1.0]).double()
    expected = (point[:2] / point[2] + 0.5).float()
    torch.testing.assert_close(to_a[20, 30], expected)
    shown = to_b[to_b.isfinite().all(2)]
    assert shown.min() >= 0
    assert shown[:, 0].max() < 50
    assert shown[:, 1].max() < 70
    assert not to_b.isnan().any()


def test_what_is_behind_the_camera_is_not_shown():
    "z = 1 - x / 5 is negative from the sixth pixel on, and two minus signs would be a plus."
    matrix = torch.tensor([[-1.0, 0, 8], [0, -1, 0], [-0.2, 0, 1]]).double()
    to_b, _ = homography_views(matrix, (20, 1), (20, 1))
    assert to_b[0, 6:].isinf().all()


def test_a_warped_picture_is_the_picture():
    left = noise(64, 48)
    to_b, to_a = shift_by(5, -3)
    moved = np.array(warp_view(left, to_a))
    assert np.array_equal(moved[:45, 5:], np.array(left)[3:, :-5])
    assert (moved[:, :5] == 128).all()
    again = np.array(warp_view(Image.fromarray(moved), to_b))
    assert np.array_equal(again[3:, :-5], np.array(left)[3:, :-5])


def test_a_picture_moved_by_one_cell(tmp_path):
    a, b = write_pair(tmp_path, shift_by(12, 0))  # the middle square has 4 cells of 12 pixels
    truth = true_correspondences(a, b, 4)
    for n in range(16):
        row, column = divmod(n, 4)
        assert truth.coverage_n[n] == 1
        assert truth.visible_n[n] == (column < 3)
        if column < 3:
            assert truth.flow_nm[n, n + 1] == 1
            assert truth.target_xy_n2[n].tolist() == [column + 1.5, row + 0.5]
    back = true_correspondences(b, a, 4)
    assert torch.equal(back.flow_nm, truth.flow_nm.T)
    # seen twice as large, the same move is two cells
    near = true_correspondences(a, b, 4, resize_ratio=2.0)
    assert near.flow_nm[4, 6] == 1


def test_an_image_is_itself(tmp_path):
    a, _ = write_pair(tmp_path, shift_by(12, 0))
    same = true_correspondences(a, a, 6)
    assert torch.equal(same.flow_nm, torch.eye(36))
    assert same.visible_n.all()


def test_unknown_is_not_hidden(tmp_path):
    to_b, to_a = (x.clone() for x in shift_by(0, 0))
    to_b[:12, 8:20] = torch.nan  # the first cell of the middle square
    to_b[:12, 20:32] = torch.inf  # the second
    a, b = write_pair(tmp_path, (to_b, to_a))
    truth = true_correspondences(a, b, 4)
    assert truth.coverage_n.tolist() == [0.0] + [1.0] * 15
    assert truth.visible_n.tolist() == [False, False] + [True] * 14
    assert truth.flow_nm[:2].sum() == 0
    assert truth.target_xy_n2[:2].isnan().all()


def test_maps_that_do_not_fit_are_refused(tmp_path):
    a, b = write_pair(tmp_path, shift_by(0, 0, size=(60, 48)))
    with pytest.raises(ValueError, match=r"a.npz has 60 x 48 pixels, its picture 64 x 48"):
        true_correspondences(a, b)
    with pytest.raises(ValueError, match=r"a.npz: expected a map to c.png, got those to b.png"):
        true_correspondences(a, b._replace(path=tmp_path / "c.png"))
    np.savez(a.metadata["view_maps"], **{"b.png": np.zeros((48, 64))})
    with pytest.raises(ValueError, match=r"expected float32 of shape .H, W, 2., got float64"):
        true_correspondences(a, b)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", **{"b.png": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="a.npz is no .npz file of correspondence maps"):
        read_correspondence_map(tmp_path / "a.npz", "b.png")
    np.save(tmp_path / "b.npy", np.zeros(3))
    for content in (b"", b"PK", b"text"):
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(ValueError, match="c.npz is no .npz file"):
            read_correspondence_map(tmp_path / "c.npz", "b.png")
    with pytest.raises(ValueError, match="b.npy is no .npz file"):
        read_correspondence_map(tmp_path / "b.npy", "b.png")


def test_the_same_bytes_each_time(tmp_path):
    for name in ("first", "second"):
        write_pair(tmp_path / name, shift_by(3, 0))
    first, second = (tmp_path / name / "thing" / "a.npz" for name in ("first", "second"))
    assert hash_file(first) == hash_file(second)


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_a_map_outside_of_the_folder_is_refused(tmp_path, way):
    outside = tmp_path / "outside.npz"
    outside.write_bytes(b"")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(noise(8, 8)))
    (folder / "link.npz").symlink_to(outside)
    text = {"above": "../outside.npz", "absolute": str(outside), "link": "link.npz"}[way]
    (folder / "images.csv").write_text(f"path,label,split,view_maps\na.png,a,test,{text}\n")
    with pytest.raises(ValueError, match="column view_maps: expected a file below .*set, got"):
        load_csv(folder / "images.csv")


def test_the_map_is_part_of_the_set(tmp_path):
    write_pair(tmp_path, shift_by(0, 0))
    before = load_csv(tmp_path / "images.csv").hash
    file = tmp_path / "thing" / "a.npz"
    np.savez(file, **{"b.png": np.zeros((48, 64, 2), np.float32)})
    assert load_csv(tmp_path / "images.csv").hash != before
    file.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 correspondence maps are missing in .*thing/a.npz"
    ):
        load_csv(tmp_path / "images.csv")
    (tmp_path / "images.csv").write_text("path,label,split,view_maps\nthing/a.png,a,test,\n")
    with pytest.raises(ValueError, match="view_maps is empty in line 2"):
        load_csv(tmp_path / "images.csv")


@pytest.fixture
def toy(tmp_path):
    "A root with a list of one pair, and the package that holds it."
    grey = Image.fromarray(np.full((48, 64), 4, np.uint8))
    content = png(noise(64, 48))
    members = {"left.png": content, "right.png": content, "disparity.png": png(grey)}
    package = tmp_path / "things_1.deb"
    with tarfile.open(package, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    rows = [f"toy,{name},things,{name},{hash_bytes(data)}" for name, data in members.items()]
    (tmp_path / "photographs").mkdir()
    listed = tmp_path / "photographs" / "real_views.csv"
    listed.write_text("\n".join(["label,name,package,file,sha256", *rows]))
    return tmp_path, {RemoteFile("things_1.deb"): package}


def test_a_package_of_our_own(toy, tmp_path):
    root, files = toy
    table = build_real_views(files, tmp_path / "new", root)
    assert table.path.tolist() == ["toy/left.png", "toy/right.png"]
    assert table.view_maps.tolist() == ["toy/left.npz", "toy/right.npz"]
    assert set(table.split) == {"test"}
    to_right = read_correspondence_map(tmp_path / "new" / "toy" / "left.npz", "right.png")
    assert torch.equal(to_right[0, 4:, 0], torch.arange(60) + 0.5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("things,left.png", "things,lost.png", "things_1.deb has no file lost.png"),
        (hash_bytes(png(noise(64, 48))), "0" * 64, "left.png of things is not the file that"),
        (",things,", ",others,", "packages others are not among .'things'."),
    ],
)
def test_what_is_missing_or_changed_in_a_package_is_named(toy, tmp_path, old, new, message):
    root, files = toy
    listed = root / "photographs" / "real_views.csv"
    listed.write_text(listed.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        build_real_views(files, tmp_path / "new", root)


def test_the_list_names_two_photographs_and_what_was_measured():
    rows = pd.read_csv(LISTED, dtype=str)
    assert not rows.duplicated(["label", "name"]).any()
    assert rows.sha256.str.fullmatch("[0-9a-f]{64}").all()
    assert set(rows.package) == {file.name.partition("_")[0] for file in VIEW_FILES}
    for _, group in rows.groupby("label"):
        names = group.name.tolist()
        assert len(names) == 3
        assert names[2].startswith(("disparity.", "homography."))


@pytest.fixture(scope="session")
def debs(fetch_packages):
    "The Debian packages, fetched by apt-get."
    return fetch_packages(VIEW_FILES, "apt-get")


@pytest.fixture
def root(tmp_path):
    shutil.copytree(LISTED.parent, tmp_path / "photographs")
    return tmp_path


def test_real_views_from_the_packages(debs, root):
    prepare_dataset("real_views", root=root, archives=debs)
    assert verify_dataset("real_views", root=root) == 6
    images = get_dataset("real_views", root=root)
    assert images.hash == DATASETS["real_views"].hash
    assert images.classes == ("motorcycle", "aloe", "graf")
    shares = []
    for n in range(6):
        truth = true_correspondences(images[n], images[n ^ 1], 14)
        shares.append(truth.visible_n.double().mean().item())
    # the wall from the side is half outside of the other picture
    assert [share > 0.8 for share in shares] == [True] * 5 + [False]
    assert shares[5] > 0.5


def test_another_version_of_a_package_is_refused(debs, root, monkeypatch):
    files = (replace_checksum(VIEW_FILES[0]), VIEW_FILES[1])
    spec = replace(DATASETS["real_views"], files=files)
    monkeypatch.setitem(DATASETS, "real_views", spec)
    with pytest.raises(ValueError, match=f"python3-skimage_0.19.3-8_all.deb.*expected {'0' * 64}"):
        prepare_dataset("real_views", root=root, archives=debs)
    assert [path.name for path in root.iterdir()] == ["photographs"]


def replace_checksum(file: RemoteFile) -> RemoteFile:
    return file._replace(checksum="sha256:" + "0" * 64)


def test_a_photograph_that_changed_is_named(debs, root):
    listed = root / "photographs" / "real_views.csv"
    rows = pd.read_csv(listed, dtype=str)
    rows.loc[rows.file.str.endswith("graf3.png"), "sha256"] = "0" * 64
    rows.to_csv(listed, index=False)
    with pytest.raises(
        ValueError, match=r"graf3.png of opencv-doc is not the file that real_views"
    ):
        prepare_dataset("real_views", root=root, archives=debs)
    rows.assign(file=rows.file.str.replace("graf1", "graf2")).to_csv(listed, index=False)
    with pytest.raises(ValueError, match=r"opencv-doc_.*deb has no file .*graf2.png"):
        prepare_dataset("real_views", root=root, archives=debs)
    assert [path.name for path in root.iterdir()] == ["photographs"]


def test_the_photographs_confirm_the_maps(debs, root):
    "B drawn as A sees it looks like A, and less so where the map is moved by two pixels."
    prepare_dataset("real_views", root=root, archives=debs)
    images = get_dataset("real_views", root=root)
    for n in range(6):
        a, b = images[n], images[n ^ 1]
        map_hw2 = read_correspondence_map(a.metadata["view_maps"], b.path.name)
        shown = map_hw2.isfinite().all(2).numpy()
        seen = np.array(Image.open(a.path).convert("RGB"), float)[shown]
        differences = []
        for move in (0, 2, -2):
            drawn = warp_view(Image.open(b.path), map_hw2 + torch.tensor([move, 0]))
            differences.append(np.abs(seen - np.array(drawn, float)[shown]).mean())
        assert differences[0] < 0.9 * min(differences[1:]), (a.path, differences)


@pytest.mark.skipif(
    not (data_dir() / "real_views").exists(),
    reason="the set is not here; `diml data fetch real_views` makes it",
)
def test_the_set_that_was_fetched():
    images = get_dataset("real_views")
    assert (len(images), images.hash) == (6, DATASETS["real_views"].hash)


def test_read_listed_keeps_the_order_of_the_table(toy):
    root, files = toy
    listed = read_listed(root / "photographs" / "real_views.csv", files)
    assert [row.name for row, _ in listed] == ["left.png", "right.png", "disparity.png"]


def test_a_homography_is_known_up_to_a_factor():
    matrix_33 = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    for one, other in zip(
        homography_views(matrix_33, (3, 2), (3, 2)),
        homography_views(-2 * matrix_33, (3, 2), (3, 2)),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_member_that_is_no_map_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as file:
        file.writestr("b.png", b"no array")
    with pytest.raises(ValueError, match=r"odd.npz"):
        read_correspondence_map(tmp_path / "odd.npz", "b.png")
