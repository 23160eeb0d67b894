"""Networks of one convolution, as backbones, and three images for them."""

import torch
from torch import nn

from diml_nb._internal.paths import data_dir
from diml_nb.features.backbones import Backbone
from diml_nb.features.grid import grid_features

PATHS = [data_dir() / "emoji" / name / "noto.png" for name in ("penguin", "airplane", "bus")]


def small_network(*last, stride=4, padding="zeros"):
    "Equal weights each time; what differs has none."
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=stride, padding=1, padding_mode=padding)
    return nn.Sequential(
        conv, *(last or (nn.ReLU(),)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def wrapped(*last, image_size=32, stride=4, padding="zeros", **normalisation):
    "A small network as a backbone; `normalisation` may give mean and std."
    network = small_network(*last, stride=stride, padding=padding)
    return Backbone(network, image_size=image_size, **normalisation)


def random_blocks(shift):
    def make(start, stop):
        draw = [
            torch.randn(8, 2, 2, generator=torch.Generator().manual_seed(i)) + shift
            for i in range(start, stop)
        ]
        return grid_features(torch.stack(draw), grid=2)

    return make
