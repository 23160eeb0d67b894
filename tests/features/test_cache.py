"""Cached maps: all that determines them is in their key; pruning removes only what we wrote."""

import os

import numpy as np
import pytest
import torch
from small_networks import PATHS, random_blocks, small_network, wrapped
from torch import nn

from diml_nb.datasets.registry import get_dataset
from diml_nb.features import cache, store
from diml_nb.features.backbones import (
    Backbone,
    get_backbone,
    weights_hash,
)
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps, prune_cached_maps
from diml_nb.features.images import load_image
from diml_nb.learning import config as training_config
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.network import EmbeddingInputs
from diml_nb.learning.trainer import load_trained, train


class Functional(nn.Module):
    "The same modules and the same weights; only the code of `forward` differs."

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function = nn.Conv2d(3, 8, 3, stride=4), [function]

    def forward_features(self, image_bchw):
        return self.function[0](self.conv(image_bchw))


class Grey(Backbone):
    def preprocess(self, image, *, resize_ratio=1.0):
        return super().preprocess(image.convert("L"), resize_ratio=resize_ratio)


def changed():
    "One thing at a time, beside the plain one: none of it is a weight, but for the last three."
    half = wrapped().to(torch.bfloat16)
    double = wrapped().double()
    patched = wrapped()
    patched.preprocess = lambda image, resize_ratio=1.0: Backbone.preprocess(
        patched, image, resize_ratio=1.2
    )
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
        "preparation of the class": Grey(small_network(), image_size=32),
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


def test_a_bank_is_not_continued_with_other_features(tmp_path):
    calls = []

    def stopped(start, stop):
        calls.append(start)
        if start == 8:
            raise KeyboardInterrupt
        return random_blocks(0.2)(start, stop)

    with pytest.raises(KeyboardInterrupt):
        store.write_store(tmp_path, stopped, 16, block=4)
    with pytest.raises(ValueError, match="a feature store of other features was begun here"):
        store.write_store(tmp_path, random_blocks(2.0), 16, block=4)
    whole = store.open_store(
        store.write_store(tmp_path, random_blocks(0.2), 16, block=4, precision="float16")
    )
    assert torch.equal(whole.global_bc, random_blocks(0.2)(0, 16).global_bc)


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
