"""Images from files and from memory take the same steps; what is ambiguous is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import PATHS, wrapped

from diml_nb.datasets.folders import check_images
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps
from diml_nb.features.images import load_image
from diml_nb.viz.widgets.controls import prepare_image
from diml_nb.viz.widgets.pair import PairExplorer


def exif(path, orientation=6):
    picture = Image.new("RGB", (20, 10), "blue")
    picture.paste("red", (0, 0, 10, 10))
    tags = Image.Exif()
    tags[0x0112] = orientation
    picture.save(path, exif=tags)
    return path


def sixteen(path, value=20000):
    Image.fromarray(np.full((8, 8), value, np.uint16)).save(path)
    return path


def write_tiff(path, values, bits):
    "A grey TIFF of 12 bits, which Pillow reads and does not write."
    import struct

    packed = bytearray()
    for a, b in zip(values[::2], values[1::2]):
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    side = int(len(values) ** 0.5)
    entries = [
        (256, side),
        (257, side),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, side),
        (279, len(packed)),
    ]
    data = (
        b"II*\0"
        + struct.pack("<I", 8 + len(packed))
        + bytes(packed)
        + struct.pack("<H", len(entries))
    )
    data += b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    ) + struct.pack("<I", 0)
    path.write_bytes(data)
    return path


def test_a_picture_in_memory_takes_the_steps_of_its_file(tmp_path):
    net = wrapped()
    made = [
        exif(tmp_path / "turned.jpg"),
        exif(tmp_path / "turned.png", 8),
        sixteen(tmp_path / "deep.png"),
        sixteen(tmp_path / "deep.tiff", 50000),
    ]
    for mode, pixel in (("L", 100), ("LA", (9, 0)), ("RGBA", (9, 9, 9, 0)), ("P", 0), ("1", 1)):
        Image.new(mode, (12, 8), pixel).save(tmp_path / f"{mode}.png")
        made.append(tmp_path / f"{mode}.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "ink.jpg")
    for path in (*made, tmp_path / "ink.jpg"):
        opened = Image.open(path)
        mode, size = opened.mode, opened.size
        right = load_image(path)
        assert load_image(opened).tobytes() == right.tobytes(), path
        assert (opened.mode, opened.size) == (mode, size), path
        assert torch.equal(net.preprocess(Image.open(path)), net.preprocess(right)), path
        assert torch.equal(
            prepare_image(Image.open(path), net).ready_chw, prepare_image(path, net).ready_chw
        ), path
        assert torch.equal(
            extract_feature_maps([Image.open(path)], net, cache=tmp_path / "a"),
            extract_feature_maps([path], net, cache=tmp_path / "b"),
        ), path
    assert load_image(Image.open(tmp_path / "turned.jpg")).size == (10, 20)
    assert load_image(Image.open(tmp_path / "deep.png")).getpixel((0, 0)) == (78, 78, 78)
    draws = [
        (torch.manual_seed(3), net.augment(x))[1]
        for x in (Image.open(made[0]), load_image(made[0]))
    ]
    assert torch.equal(*draws)


def test_an_explorer_takes_pictures_in_memory(tmp_path):
    turned, net = exif(tmp_path / "turned.jpg"), wrapped()
    pair = PairExplorer(Image.open(turned), np.asarray(load_image(turned)), backbone=net, grid=2)
    assert pair.prepared[0].image.tobytes() == pair.prepared[1].image.tobytes()


def test_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    assert np.array_equal(np.asarray(load_image(pixels)), pixels)
    assert np.array_equal(np.asarray(load_image(pixels[..., :1]))[..., 2], pixels[..., 0])
    assert load_image(np.full((4, 4), 20000, np.uint16)).getpixel((0, 0)) == (78, 78, 78)
    assert load_image(np.full((4, 4), 20000, ">u2")).getpixel((0, 0)) == (78, 78, 78)
    assert load_image(np.full((4, 4, 3), 20000, np.uint16)).getpixel((0, 0)) == (78, 78, 78)
    assert load_image(np.zeros((4, 4, 4), np.uint8)).getpixel((0, 0)) == (255, 255, 255)
    assert load_image(np.ones((4, 4), bool)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((4, 4, 3)),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 4), np.int32),
        np.zeros(4, np.uint8),
        torch.zeros(3, 4, 4),
        7,
        None,
    ],
)
def test_what_is_no_picture_is_said(given, tmp_path):
    with pytest.raises(ValueError, match="cannot read the image .*expected (pixels|a path)"):
        load_image(given)


def test_twelve_bits(tmp_path):
    """Stated: scaled by what is stated. Not stated: refused by name, since it may as well be nearly
    black."""
    stated = load_image(write_tiff(tmp_path / "stated.tiff", [4095] * 32 + [2048] * 32, 12))
    assert stated.getpixel((0, 0)) == (255, 255, 255)
    assert stated.getpixel((7, 7)) == (128, 128, 128)
    for suffix in ("png", "tiff"):
        path = sixteen(tmp_path / f"unstated.{suffix}", 4095)
        for source in (path, Image.open(path)):
            with pytest.raises(
                ValueError, match="4095: either it is nearly black, or it holds 12 bits"
            ):
                load_image(source)
        with pytest.raises(ValueError, match="unstated"):
            check_images([path])
    assert load_image(sixteen(tmp_path / "black.png", 0)).getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(ValueError, match="nearly black"):
        load_image(np.full((4, 4), 100, np.uint16))
    with pytest.raises(ValueError, match="nearly black"):
        load_image(np.array([[[100, 100, 4000, 65535]]], np.uint16))  # opaque


def test_fourteen_bits_are_read_with_a_warning(tmp_path, monkeypatch):
    "They may as well be a dark picture of sixteen."
    monkeypatch.setattr("diml_nb._internal.paths._WARNED", {})
    with pytest.warns(UserWarning, match="above 16383: it is dark, or it holds 14 bits"):
        assert load_image(sixteen(tmp_path / "unstated.png", 16383)).getpixel((0, 0))[0] == 63


def test_a_photograph_in_a_format_that_is_not_known_says_what_to_do(tmp_path):
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(ValueError, match="photo.heic.*save it as JPEG or PNG.*pillow-heif"):
        load_image(tmp_path / "photo.heic")


def test_animated_and_damaged_in_memory(tmp_path):
    frames = [Image.new("L", (8, 8), c) for c in (0, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="2 frames"):
        load_image(Image.open(tmp_path / "film.gif"))
    film = Image.open(tmp_path / "film.gif")
    film.seek(1)
    assert load_image(film.copy()).getpixel((0, 0))[0] > 190
    Image.new("RGB", (300, 300)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    with pytest.raises(ValueError, match="cannot read the image"):
        load_image(Image.open(tmp_path / "cut.jpg"))


def test_huge_pictures(tmp_path, monkeypatch):
    "A ribbon is cut before it is enlarged; too many pixels are refused by name."
    import resource

    net = wrapped(image_size=224, stride=32)
    ribbon = Image.new("RGB", (60_000, 2), "white")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert net.preprocess(ribbon).shape == (3, 224, 224)  # resized as a whole it would take 4.5 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert torch.equal(net.preprocess(ribbon.rotate(90, expand=True)), net.preprocess(ribbon))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (50, 50)).save(tmp_path / "huge.png")
    with pytest.raises(ValueError, match="huge.png.*exceeds limit"):
        load_image(tmp_path / "huge.png")


def test_ribbons_keep_their_middle():
    "The cut is in the middle: what is seen is what was seen without it."
    wide = Image.fromarray(
        np.tile(np.random.default_rng(0).integers(0, 256, (16, 40, 3), np.uint8), (1, 10, 1))
    )
    net = wrapped()
    from torchvision.transforms.v2 import functional as T

    whole = T.center_crop(
        T.resize(wide, 32, interpolation=T.InterpolationMode.BICUBIC, antialias=True), [32, 32]
    )
    seen = net.preprocess(wide) * torch.tensor(net.std).view(3, 1, 1) + torch.tensor(net.mean).view(
        3, 1, 1
    )
    assert (seen - T.to_dtype(T.to_image(whole), torch.float32, scale=True)).abs().max() < 0.02


@pytest.mark.parametrize("make", [extract_feature_maps, memmap_feature_maps])
def test_what_people_hand_over(tmp_path, monkeypatch, make):
    "One path, a pattern, one's home, one picture, an array, several of them, names in numpy."
    net = wrapped()
    (tmp_path / "home").mkdir()
    for n, path in enumerate(PATHS):
        Image.open(path).save(tmp_path / "home" / f"{n}.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = sorted((tmp_path / "home").glob("*.png"))
    right = make(files, net, cache=tmp_path)
    assert right.shape == (3, 8, 8, 8)
    for given in (
        "~/*.png",
        str(tmp_path / "home" / "?.png"),
        np.array([str(f) for f in files]),
        iter(files),
        ["~/0.png", *files[1:]],
        [load_image(f) for f in files],
        np.stack([np.asarray(load_image(f).resize((64, 64))) for f in files]),
    ):
        found = make(given, net, cache=tmp_path)
        assert found.shape == right.shape
        if not (isinstance(given, np.ndarray) and given.ndim > 1):  # those are resized pictures
            assert torch.equal(found, right)
    for one in (
        files[0],
        str(files[0]),
        "~/0.png",
        load_image(files[0]),
        np.asarray(load_image(files[0])),
    ):
        assert torch.equal(make(one, net, cache=tmp_path), right[:1])
    for none, said in (
        (tmp_path, "is a folder"),
        ("~/*.jpg", "no file matches"),
        ([], "at least one image"),
        ("~/gone.png", "gone.png"),
    ):
        with pytest.raises(ValueError, match=said):
            make(none, net, cache=tmp_path)
