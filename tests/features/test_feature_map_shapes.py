"""What networks return becomes a map, or the error says what came."""

import pytest
import torch
from small_networks import PATHS
from torch import nn

from diml_nb.features.backbones import (
    Backbone,
    get_backbone,
    to_feature_map,
)
from diml_nb.features.cache import extract_feature_maps


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
