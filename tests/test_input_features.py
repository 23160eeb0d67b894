"""Maps, pictures and backbones: what determines a result is in its key, and input is read in one
way or refused by name."""

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diml_nb._internal import compiler, paths
from diml_nb._internal.paths import REPO_ROOT, data_dir
from diml_nb.datasets import download
from diml_nb.datasets.folders import check_images
from diml_nb.datasets.registry import get_dataset
from diml_nb.features import backbones as backbone_module, cache, store
from diml_nb.features.backbones import (
    Backbone,
    computation,
    get_backbone,
    same_computation,
    to_feature_map,
    weights_hash,
)
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps, prune_cached_maps
from diml_nb.features.grid import grid_features
from diml_nb.features.images import load_image
from diml_nb.learning import config as training_config
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.network import EmbeddingInputs
from diml_nb.learning.trainer import load_trained, train
from diml_nb.ot import native
from diml_nb.viz.widgets.controls import prepare_image
from diml_nb.viz.widgets.pair import PairExplorer

PATHS = [data_dir() / "emoji" / name / "noto.png" for name in ("penguin", "airplane", "bus")]


def small(*last, stride=4, padding="zeros", mode=None):
    "Equal weights each time; what differs has none."
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=stride, padding=1, padding_mode=padding)
    return nn.Sequential(
        conv, *(last or (nn.ReLU(),)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def wrapped(*last, image_size=32, **facts):
    facts = {k: facts.pop(k) for k in ("mean", "std") if k in facts} | dict(network=facts)
    return Backbone(small(*last, **facts.pop("network")), image_size=image_size, **facts)


class Functional(nn.Module):
    "The same modules and the same weights; only the code of `forward` differs."

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function = nn.Conv2d(3, 8, 3, stride=4), [function]

    def forward_features(self, image_bchw):
        return self.function[0](self.conv(image_bchw))


class Grey(Backbone):
    def preprocess(self, image, *, margin=1.0):
        return super().preprocess(image.convert("L"), margin=margin)


def changed():
    "One thing at a time, beside the plain one: none of it is a weight, but for the last three."
    half = wrapped().to(torch.bfloat16)
    double = wrapped().double()
    patched = wrapped()
    patched.preprocess = lambda image, margin=1.0: Backbone.preprocess(patched, image, margin=1.2)
    heavier = wrapped()
    with torch.no_grad():
        heavier.network[0].bias += 0.1
    return {
        "activation": wrapped(nn.Tanh()),
        "variant of an activation": wrapped(nn.GELU()),
        "another variant": wrapped(nn.GELU("tanh")),
        "padding": wrapped(padding="reflect"),
        "stride": wrapped(stride=2),
        "normalisation": wrapped(mean=(0.5, 0.5, 0.5)),
        "image size": wrapped(image_size=40),
        "preparation of the class": Grey(small(), image_size=32),
        "preparation of the object": patched,
        "bfloat16": half,
        "float64": double,
        "weights": heavier,
    }


def test_each_ingredient_alone_gives_another_key(tmp_path):
    shelves = {"plain": cache._cache_folder(tmp_path, wrapped())}
    for name, net in changed().items():
        shelves[name] = cache._cache_folder(tmp_path, net)
    assert len(set(shelves.values())) == len(shelves), shelves
    assert cache._cache_folder(tmp_path, wrapped()) == shelves["plain"]


@pytest.mark.parametrize("make", [extract_feature_maps, memmap_feature_maps])
def test_a_cache_never_gives_the_maps_of_another_network(tmp_path, make):
    "What each network gets from a cache that all of them share is what it computes alone."
    for name, net in (dict(plain=wrapped()) | changed()).items():
        with torch.no_grad():
            alone = net(torch.stack([net.preprocess(load_image(path)) for path in PATHS])).half()
        assert torch.equal(make(PATHS, net, cache=tmp_path), alone), name
        assert torch.equal(make(PATHS, net, cache=tmp_path), alone), name


def test_code_alone_gives_another_key(tmp_path):
    nets = [
        Backbone(Functional(f), image_size=32) for f in (torch.relu, torch.tanh, nn.functional.gelu)
    ]
    assert len({weights_hash(net) for net in nets}) == 1
    assert len({cache._cache_folder(tmp_path, net) for net in nets}) == 3


def test_output_stride_gives_other_maps(tmp_path):
    import timm

    nets = []
    for stride in (32, 16):
        torch.manual_seed(0)
        nets.append(
            Backbone(
                timm.create_model("resnet18", pretrained=False, output_stride=stride), image_size=64
            )
        )
    assert weights_hash(nets[0]) == weights_hash(nets[1])
    shapes = [extract_feature_maps(PATHS[:1], net, cache=tmp_path).shape[2:] for net in nets]
    assert shapes == [(2, 2), (4, 4)]


def test_ambient_precision_is_in_the_key(tmp_path):
    net = wrapped()
    exact = extract_feature_maps(PATHS, net, cache=tmp_path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = extract_feature_maps(PATHS, net, cache=tmp_path)
    assert not torch.equal(exact, rough)
    assert torch.equal(extract_feature_maps(PATHS, net, cache=tmp_path), exact)


def test_threads_share_what_they_keep(tmp_path):
    "The numbers of one thread and of four differ; the key does not."
    net, kept = get_backbone(), torch.get_num_threads()
    try:
        shelves = set()
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            shelves.add(cache._cache_folder(tmp_path, net))
    finally:
        torch.set_num_threads(kept)
    assert len(shelves) == 1


def test_inputs_of_training_are_those_of_their_backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("DIML_CACHE", str(tmp_path))
    images = get_dataset().select(range(4))
    maps = [EmbeddingInputs(images, wrapped(last()), True).maps for last in (nn.ReLU, nn.Tanh)]
    assert maps[0].min() >= 0 > maps[1].min()


def test_a_run_is_not_continued_by_another_network(tmp_path, monkeypatch):
    "Equal settings, data and weights; the backbone that made the maps computes something else."
    images = get_dataset().select(get_dataset().label_n < 12)
    config = TrainConfig(
        **CACHED_MAPS_CONFIG
        | dict(epochs=1, batch_size=8, embedding_dim=4, grid=2, structural=False)
    )

    def named(last):
        monkeypatch.setattr(training_config, "get_backbone", lambda name, pretrained: wrapped(last))

    named(nn.ReLU())
    train(config, tmp_path, images=images)
    named(nn.Tanh())
    with pytest.raises(ValueError, match="belongs to another run.*network computes"):
        train(config, tmp_path, images=images)
    with pytest.raises(ValueError, match="another computation"):
        load_trained(tmp_path)
    named(nn.ReLU())
    with pytest.raises(ValueError, match="belongs to another run.*network computes"):
        train(
            config,
            tmp_path,
            images=images,
            inputs=EmbeddingInputs(images, wrapped(nn.Tanh()), True, pooled=True),
        )
    train(config, tmp_path, images=images)
    assert load_trained(tmp_path).config == config


def made(shift):
    def make(start, stop):
        draw = [
            torch.randn(8, 2, 2, generator=torch.Generator().manual_seed(i)) + shift
            for i in range(start, stop)
        ]
        return grid_features(torch.stack(draw), grid=2)

    return make


def test_a_bank_is_not_continued_with_other_features(tmp_path):
    calls = []

    def stopped(start, stop):
        calls.append(start)
        if start == 8:
            raise KeyboardInterrupt
        return made(0.2)(start, stop)

    with pytest.raises(KeyboardInterrupt):
        store.write_store(tmp_path, stopped, 16, block=4)
    with pytest.raises(ValueError, match="a feature store of other features was begun here"):
        store.write_store(tmp_path, made(2.0), 16, block=4)
    whole = store.open_store(
        store.write_store(tmp_path, made(0.2), 16, block=4, precision="float16")
    )
    assert torch.equal(whole.global_bc, made(0.2)(0, 16).global_bc)


def test_probes_of_other_random_weights_do_not_share_inputs(monkeypatch, tmp_path):
    from diml_nb.learning import linear_probe

    monkeypatch.setattr(
        linear_probe,
        "EmbeddingInputs",
        lambda images, backbone, *rest, **more: weights_hash(backbone),
    )
    monkeypatch.setattr(linear_probe, "_INPUTS", {})
    images = get_dataset().select(range(4))
    settings = [
        dict(pretrained=False, seed=1),
        dict(pretrained=False, seed=2),
        dict(),
        dict(image_size=64),
    ]
    found = [
        linear_probe._shared_inputs(TrainConfig(**CACHED_MAPS_CONFIG | given), images)
        for given in settings
    ]
    assert len(set(found)) == 4


# ---- old entries


def old_entries(folder):
    from safetensors.torch import save_file

    maps = torch.zeros(2, 3, 4, 4, dtype=torch.float16)
    save_file({"map_bchw": maps}, folder / ("a" * 64 + ".safetensors"))
    np.save(folder / ("b" * 64 + ".npy"), maps.numpy())
    unfinished = folder / ("." + "c" * 64 + ".npy." + "d" * 12 + ".partial")
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))
    return {"a" * 64 + ".safetensors", "b" * 64 + ".npy", unfinished.name}


def others(folder):
    "Whatever else may lie there, under like names."
    from safetensors.torch import save_file

    maps = torch.zeros(2, 3, 4, 4)
    save_file({"map_bchw": maps}, folder / ("0" * 64 + ".safetensors"))  # float32
    save_file({"weight": maps.half()}, folder / ("1" * 64 + ".safetensors"))
    save_file({"map_bchw": maps.half(), "more": maps}, folder / ("2" * 64 + ".safetensors"))
    np.save(folder / ("3" * 64 + ".npy"), maps.numpy())
    np.save(folder / ("4" * 64 + ".npy"), np.zeros((2, 3), np.float16))
    (folder / ("5" * 64 + ".safetensors")).write_bytes(b"")
    (folder / ("6" * 64 + ".npy")).write_text("no array")
    (folder / ("7" * 64 + ".safetensors")).mkdir()
    (folder / ("." + "8" * 64 + ".npy." + "d" * 12 + ".partial")).write_bytes(
        b"being written just now"
    )
    (folder / "model.safetensors").write_bytes(b"mine")
    (folder / ("9" * 64 + ".npy")).symlink_to(folder / ("b" * 64 + ".npy"))
    extract_feature_maps(PATHS, wrapped(), cache=folder)


def test_prune_removes_what_older_editions_wrote_and_nothing_else(tmp_path):
    old = old_entries(tmp_path)
    others(tmp_path)
    before = {p.relative_to(tmp_path) for p in tmp_path.rglob("*")}
    bill = prune_cached_maps(tmp_path)
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*")} == before
    assert [files for files, _ in bill.values()] == [1, 1, 1]
    assert sum(size for _, size in bill.values()) == sum(
        (tmp_path / name).stat().st_size for name in old
    )
    assert prune_cached_maps(tmp_path, remove=True) == bill
    assert {str(p) for p in before} - {
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")
    } == old


def test_diml_cache_prune_shows_a_bill_first(tmp_path, diml):
    (tmp_path / "maps").mkdir()
    old = old_entries(tmp_path / "maps")
    shown = diml("cache", "prune", DIML_CACHE=str(tmp_path))
    assert shown.returncode == 0
    assert "3 files" in shown.stdout
    assert "nothing is removed; --yes" in shown.stdout
    assert {p.name for p in (tmp_path / "maps").iterdir()} == old
    done = diml("cache", "prune", "--yes", DIML_CACHE=str(tmp_path))
    assert done.returncode == 0
    assert "3 files removed" in done.stdout
    assert not list((tmp_path / "maps").iterdir())


# ---- backbones without hidden state

NETS = ("own", "torchvision/resnet18", "timm/resnet10t")


@pytest.fixture(scope="module", params=NETS)
def net(request):
    torch.manual_seed(0)
    if request.param == "own":
        return wrapped()
    net = get_backbone(request.param, pretrained=False)
    net.image_size = 64
    return net


@pytest.fixture(scope="module")
def image(net):
    return torch.randn(
        2, 3, net.image_size, net.image_size, generator=torch.Generator().manual_seed(1)
    )


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def averaged(net):
    average = torch.optim.swa_utils.AveragedModel(net)
    average.update_parameters(net)
    return average


def traced(net):
    return torch.jit.trace(
        net, torch.zeros(2, 3, net.image_size, net.image_size), check_trace=False
    )


def exported(net):
    return torch.export.export(net, (torch.zeros(2, 3, net.image_size, net.image_size),)).module()


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, pickled, saved, averaged, traced, exported]
)
@pytest.mark.filterwarnings("ignore")
def test_a_backbone_can_be(net, image, way):
    with torch.no_grad():
        right, other = net(image), way(net)
        assert torch.allclose(other(image), right, atol=1e-5)
        assert torch.allclose(net(image), right, atol=1e-6)


def test_a_copy_is_one_of_its_own(net, image):
    other = copy.deepcopy(net)
    with torch.no_grad():
        right = net(image)
        for p in other.parameters():
            p.mul_(0.5)
        assert not torch.allclose(other(image), right)
        assert torch.equal(net(image), right)


def test_nothing_is_kept_on_a_backbone(net, image):
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    net(image)
    assert {name: set(vars(module)) for name, module in net.named_modules()} == before
    tensors = [
        x for module in net.modules() for x in vars(module).values() if isinstance(x, torch.Tensor)
    ]
    hooks = [hook for module in net.modules() for hook in module._forward_hooks.values()]
    assert not tensors
    assert all(hook.__closure__ is None for hook in hooks)
    assert getattr(backbone_module._WATCHED, "now", (None, [])) == (None, [])


def test_several_threads_on_one_backbone(net):
    "Each gets the map of its own images, many times."
    draw = torch.Generator().manual_seed(2)
    images = [torch.randn(1, 3, net.image_size, net.image_size, generator=draw) for _ in range(6)]
    with torch.no_grad():
        right = [net(x) for x in images]

    def work(n):
        with torch.no_grad():
            return all(torch.allclose(net(images[n]), right[n], atol=1e-5) for _ in range(20))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(6)))


class Waits(nn.Module):
    "Behind the map: nobody goes on before both threads have made theirs."

    def __init__(self):
        super().__init__()
        self.barrier = [threading.Barrier(1)]

    def forward(self, x):
        self.barrier[0].wait()
        return x.mean((2, 3))


def test_two_threads_that_are_in_the_network_at_once():
    waits = Waits()
    torch.manual_seed(0)
    net = Backbone(nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), waits), image_size=32)
    images = torch.randn(2, 1, 3, 32, 32)
    right = [net(x) for x in images]
    waits.barrier[0] = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(net, images))
    assert all(torch.equal(x, y) for x, y in zip(found, right))


def _map_of(net, image, answer):
    with torch.no_grad():
        answer.put(net(image).numpy())


def test_workers_under_spawn(net, image):
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    worker = context.Process(target=_map_of, args=(net, image, answer))
    worker.start()
    found = answer.get(timeout=120)
    worker.join()
    with torch.no_grad():
        assert np.allclose(found, net(image).numpy(), atol=1e-5)


def test_two_backbones_of_one_network():
    "The second, for another image size, finds its map elsewhere; the first does not notice."
    network = nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8),
        nn.ReLU(),
        nn.Conv2d(4, 6, 4, stride=4),
        nn.AdaptiveAvgPool2d(1),
    )
    first = Backbone(network, image_size=32)
    x = torch.randn(1, 3, 64, 64)
    right = first(x)
    second = Backbone(network, image_size=64)
    assert right.shape == (1, 4, 8, 8)
    assert torch.equal(first(x), right)
    assert second(x).shape == (1, 6, 2, 2)


def test_a_module_that_is_called_twice():
    "Its first output is the map, its second a vector."
    act = nn.ReLU()
    net = Backbone(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4),
            act,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
            act,
        ),
        image_size=32,
    )
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 8, 8, 8)


def test_a_module_that_was_replaced_is_named():
    net = wrapped()
    net.network[1] = nn.Tanh()
    with pytest.raises(
        ValueError, match="its module '1' gave no output; wrap the changed network anew"
    ):
        net(torch.zeros(1, 3, 32, 32))


# ---- pictures: all entrances, the same steps


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
        assert isinstance(given, np.ndarray) and given.ndim > 1 or torch.equal(found, right)
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


# ---- shapes


@pytest.mark.parametrize(
    "tokens, side, prefix",
    [(196, 14, 0), (197, 14, 1), (198, 14, 2), (200, 14, 4), (201, 14, 5), (17, 4, 1)],
)
def test_usual_tokens(tokens, side, prefix):
    x = torch.randn(2, tokens, 3)
    assert torch.equal(to_feature_map(x), x[:, prefix:].transpose(1, 2).unflatten(2, (side, side)))


@pytest.mark.parametrize("tokens", [110, 199, 202, 204, 61, 393])
def test_unusual_tokens_are_not_guessed(tokens):
    with pytest.raises(
        ValueError,
        match=(
            rf"{tokens} tokens are not a square of patches behind 0 or 1 or 2 or 4 or"
            r" 5.*grid=\(rows, columns\), prefix="
        ),
    ):
        to_feature_map(torch.zeros(1, tokens, 3))


def test_tokens_that_somebody_explains():
    assert to_feature_map(torch.zeros(1, 393, 3), grid=(14, 28)).shape == (1, 3, 14, 28)
    assert to_feature_map(torch.zeros(1, 203, 3), prefix=7).shape == (1, 3, 14, 14)
    assert to_feature_map(torch.zeros(1, 121, 3), grid=(10, 12), prefix=1).shape == (1, 3, 10, 12)
    for told in (dict(prefix=2), dict(grid=(10, 10)), dict(grid=(10, 12), prefix=0)):
        with pytest.raises(ValueError, match="121 tokens are not"):
            to_feature_map(torch.zeros(1, 121, 3), **told)


def test_one_cell_is_a_map():
    assert to_feature_map(torch.zeros(1, 512, 1, 1)).shape == (1, 512, 1, 1)
    net = get_backbone("torchvision/resnet18", pretrained=False)
    net.image_size = 32
    assert extract_feature_maps(PATHS[:1], net, cache=None).shape == (1, 512, 1, 1)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward_features(self, image_bchw):
        return self.value


@pytest.mark.parametrize(
    "value, said",
    [
        (
            dict(x_norm=torch.zeros(1, 3), tokens=torch.zeros(1, 9, 3)),
            r"a dict of x_norm: \(1, 3\), tokens: \(1, 9, 3\)",
        ),
        (
            [torch.zeros(1, 3, 4, 4), torch.zeros(1, 6, 2, 2)],
            r"a list of 0: \(1, 3, 4, 4\), 1: \(1, 6, 2, 2\)",
        ),
        (torch.zeros(1, 512), r"a tensor of shape \(1, 512\)"),
        (torch.zeros(()), r"a tensor of shape \(\)"),
        (None, "a NoneType"),
    ],
)
def test_what_came_is_said(value, said):
    with pytest.raises(ValueError, match=f"got {said}; wrap the network"):
        Backbone(Returns(value))(torch.zeros(1, 3, 32, 32))


def test_the_patches_of_a_wide_image():
    "A ViT on 160 x 192: 121 tokens, which are 11 x 11 and no class token, or 10 x 12 behind one."
    import timm

    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=(160, 192))
    with torch.no_grad():
        net, x = Backbone(network, image_size=160), torch.randn(1, 3, 160, 192)
        right = network.forward_features(x)[:, 1:].transpose(1, 2).unflatten(2, (10, 12))
        assert torch.equal(net(x), right)
        network.num_prefix_tokens = None
        assert torch.equal(net(x), right)


@pytest.mark.parametrize(
    "name",
    ["timm/vit_tiny_patch16_224", "torchvision/vit_b_32", "timm/swin_tiny_patch4_window7_224"],
)
def test_another_image_size_is_refused_in_a_sentence(name, tmp_path):
    net = get_backbone(name, pretrained=False)
    net.image_size = 160
    with pytest.raises(
        ValueError, match=rf"{name}.*does not take images of shape \(1, 3, 160, 160\).*image_size"
    ):
        extract_feature_maps(PATHS, net, cache=tmp_path)


def test_diml_says_it_too(tmp_path, diml):
    words = [
        "train",
        "--set",
        "backbone=timm/vit_tiny_patch16_224",
        "--set",
        "pretrained=false",
        "--set",
        "image_size=160",
        "--out",
        str(tmp_path / "run"),
    ]
    done = diml(*words)
    assert done.returncode == 2
    assert "does not take images of shape" in done.stderr


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_for_other_channels_is_refused_by_name(channels, tmp_path):
    import timm

    own = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match="grey.*does not take images of shape.*RGB"):
        Backbone(own, name="grey", image_size=32)
    net = Backbone(
        timm.create_model("resnet10t", pretrained=False, in_chans=channels),
        name="grey",
        image_size=64,
    )
    with pytest.raises(ValueError, match="grey.*does not take images of shape.*RGB"):
        extract_feature_maps(PATHS, net, cache=tmp_path)


# ---- without a cache, without hard links, at the same time

WORK = """
import sys, warnings, torch
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.backbones import Backbone, get_backbone
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps
from diml_nb.features.grid import grid_features
from diml_nb.learning.losses import make_loss
from diml_nb.retrieval.rerank import rerank; from diml_nb.retrieval.search import search
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    paths = get_dataset().paths[:6]
    net = get_backbone(pretrained=False)
    maps = extract_feature_maps(paths, net)
    assert torch.equal(maps, memmap_feature_maps(paths, net))
    for grid in (4, 7):
        x = grid_features(maps.float(), grid=grid)
        found = rerank(search(x, x, exclude_self=True), x, x, top_k=3)
        leaf = maps[:, :8].float().requires_grad_()
        sizes = dict(num_classes=3, embedding_dim=8, grid=grid)
        loss = make_loss("multi_similarity", structural=True, **sizes)
        loss(leaf, torch.arange(6) // 2).backward()
    ours = [
        text
        for text, file in ((str(w.message), w.filename) for w in said)
        if "diml_nb" in file or "kept" in text or "plain torch" in text
    ]
print(len(ours), *ours, sep="\\n")
"""


def run_work(**environment):
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=REPO_ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_all_works_where_no_cache_can_be(tmp_path):
    printed = run_work(DIML_CACHE="/dev/null/x")
    assert printed.startswith("1\n")
    assert "set DIML_CACHE" in printed
    assert "/dev/null/x" in printed


def test_all_works_without_a_compiler(tmp_path):
    printed = run_work(DIML_CACHE=str(tmp_path), CC="no-such-compiler")
    assert printed.startswith("1\n")
    assert "no C compiler" in printed


def test_all_works_on_a_cache_that_is_read_only(tmp_path, monkeypatch):
    "As root nothing is read-only, so the system's answer is put on here."
    monkeypatch.setenv("DIML_CACHE", str(tmp_path))
    monkeypatch.setattr(paths, "_WARNED", {})
    net, right = wrapped(), extract_feature_maps(PATHS, wrapped(), cache=tmp_path / "other")

    def read_only(*_):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    with pytest.warns(UserWarning, match="Read-only file system") as said:
        assert torch.equal(extract_feature_maps(PATHS, net), right)
        assert torch.equal(memmap_feature_maps(PATHS, net), right)
    assert len(said) == 1


def test_a_full_disk_is_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_WARNED", {})

    def full(file, parts, images):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_maps", full)
    with pytest.warns(UserWarning, match="No space left"):
        found = memmap_feature_maps(PATHS, wrapped(), cache=tmp_path)
    assert torch.equal(found, extract_feature_maps(PATHS, wrapped(), cache=tmp_path))
    assert not list(tmp_path.rglob("*.partial"))


def test_the_installation_may_be_read_only(tmp_path, monkeypatch):
    "data/cache of the repository cannot be written: one's own cache is used."
    monkeypatch.delenv("DIML_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(paths, "REPO_ROOT", tmp_path / "installed")
    (tmp_path / "installed" / "data" / "cache").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: "installed" not in str(path))
    assert paths.cache_dir() == tmp_path / ".cache" / "diml_nb"


def test_kernels_of_six_threads_that_start_at_once(tmp_path, monkeypatch):
    "A new shape: each compiles or finds the program, nobody falls back to plain torch."
    if native._pair_program(4, 4, 128) is None:
        pytest.skip("no C compiler on this machine")
    monkeypatch.setenv("DIML_CACHE", str(tmp_path))
    native.compiled_library.cache_clear()
    source = tmp_path / "two.c"
    source.write_text("int two(void) { return 2; }")
    start = threading.Barrier(6)

    def work(_):
        start.wait()
        return native.compiled_library(source, X="1")

    try:
        with ThreadPoolExecutor(6) as threads:
            libraries = list(threads.map(work, range(6)))
    finally:
        native.compiled_library.cache_clear()
    assert all(library is not None and library.two() == 2 for library in libraries)
    assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_what_another_has_made_is_used(tmp_path, monkeypatch):
    "On some systems a file that is in use cannot be replaced; then it is there already."
    if native._pair_program(4, 4, 128) is None:
        pytest.skip("no C compiler on this machine")
    made, source = tmp_path / "made.so", tmp_path / "two.c"
    source.write_text("int two(void) { return 2; }")
    made.write_bytes(b"by another")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("in use")))
    compiler._compile(["cc", "-shared", "-fPIC"], source, made)
    with pytest.raises(PermissionError):
        compiler._compile(["cc", "-shared", "-fPIC"], source, tmp_path / "not.so")


@pytest.mark.parametrize("make", [extract_feature_maps, memmap_feature_maps])
def test_maps_of_six_threads_that_start_at_once(tmp_path, make):
    net, start = wrapped(), threading.Barrier(6)
    right = extract_feature_maps(PATHS, net, cache=tmp_path / "alone")

    def work(_):
        start.wait()
        return torch.equal(make(PATHS, net, cache=tmp_path / "shared"), right)

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(6)))
    assert not list(tmp_path.rglob("*.partial"))


def test_two_processes_that_start_at_once(tmp_path):
    code = """
import torch
from diml_nb import extract_feature_maps, get_backbone, get_dataset, grid_features
from diml_nb.ot.native import score_pairs
torch.manual_seed(0)
maps_bchw = extract_feature_maps(get_dataset().paths[:4], get_backbone())
x, i = grid_features(maps_bchw.float(), grid=3), torch.arange(4)
print(score_pairs(x, x, i, i).similarity_p.sum().item())
"""
    environment = os.environ | {"DIML_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning:diml_nb", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=REPO_ROOT,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert not any("plain torch" in words for _, words in told)


@pytest.mark.parametrize("threads", [1, 6])
def test_a_bank_without_hard_links(tmp_path, monkeypatch, threads):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    start = threading.Barrier(threads)

    def work(rank):
        start.wait()
        store.write_store(tmp_path / "bank", made(0.2), 24, block=4, part=(rank, threads))

    with ThreadPoolExecutor(threads) as pool_of:
        list(pool_of.map(work, range(threads)))
    whole = store.open_store(tmp_path / "bank")
    assert torch.equal(whole.global_bc, made(0.2)(0, 24).global_bc)
    assert {p.name for p in (tmp_path / "bank").iterdir()} == {
        "manifest.json",
        "done.npy",
        *store.ARRAY_FILES.values(),
    }


def test_a_bank_of_six_threads_that_start_at_once(tmp_path):
    start = threading.Barrier(6)

    def work(rank):
        start.wait()
        store.write_store(tmp_path / "bank", made(0.2), 24, block=4, part=(rank, 6))

    with ThreadPoolExecutor(6) as pool_of:
        list(pool_of.map(work, range(6)))
    assert torch.equal(store.open_store(tmp_path / "bank").global_bc, made(0.2)(0, 24).global_bc)


def test_two_threads_write_under_names_of_their_own(tmp_path):
    barrier, names = threading.Barrier(2), set()

    def write(partial):
        names.add(partial.name)
        partial.write_text("whole")
        barrier.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: store._create_once(tmp_path / "x", write), range(2)))
    assert len(names) == 2
    assert (tmp_path / "x").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_claim_that_was_left_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    (tmp_path / ".x.claim").mkdir()
    (tmp_path / "partial").write_text("x")
    with pytest.raises(OSError, match=".x.claim: a process seems to have been killed"):
        store._claim(tmp_path / "partial", tmp_path / "x")


def test_files_that_cannot_be_locked(tmp_path, monkeypatch):
    "Nobody waits then, so each fetches under a name of its own, and leaves nothing but the file."
    import fcntl

    from diml_nb.datasets.registry import RemoteFile

    def no_locks(*_):
        raise OSError(37, "No locks available")

    source = tmp_path / "there.bin"
    source.write_bytes(b"content" * 1000)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    place = source.as_uri()
    file = RemoteFile("there.bin", "sha256:" + paths.hash_file(source), (place,))
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return download.fetch_file(file, tmp_path / "archives")

    with ThreadPoolExecutor(4) as threads:
        assert {path.read_bytes() for path in threads.map(work, range(4))} == {b"content" * 1000}
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["there.bin"]
    with pytest.raises(OSError, match="place it at"):
        download.fetch_file(
            RemoteFile("wrong.bin", "sha256:" + "0" * 64, (place,)), tmp_path / "archives", pause=0
        )
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["there.bin"]


def test_downloads_need_no_cache(tmp_path, monkeypatch):
    from diml_nb.datasets.registry import RemoteFile

    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    (tmp_path / "by hand.bin").write_bytes(b"x")
    assert download.fetch_file(RemoteFile("by hand.bin"), tmp_path) == Path(
        tmp_path / "by hand.bin"
    )
    with pytest.raises(OSError, match="no cache at /dev/null/x.*set DIML_CACHE"):
        download.fetch_file(RemoteFile("by hand.bin"))


def test_same_computation_is_about_relative_distance():
    sketches = computation(wrapped()).sketches
    moved = [[x * (1 + 1e-6) for x in sketch] for sketch in sketches]
    far = [sketches[0], [x * (1 + 1e-3) for x in sketches[1]]]
    assert same_computation(sketches, moved)
    assert not same_computation(sketches, far)
    assert not same_computation(sketches, [sketches[0], [float("nan")] * 16])
