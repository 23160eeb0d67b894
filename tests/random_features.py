"""Features, rankings and masses of random numbers, the same at each call with a shape."""

import torch
from torch.nn.functional import normalize

from diml_nb.features.grid import Features
from diml_nb.retrieval.metrics import Ranking
from diml_nb.retrieval.search import search


def uniform(*shape) -> torch.Tensor:
    "Uniform on [0, 1)."
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def unit(*shape) -> torch.Tensor:
    "Vectors of length 1 along axis 1, of either sign."
    return normalize(uniform(*shape) - 0.3, dim=1)


def some_features(images: int = 6, grid: tuple[int, int] = (3, 3)) -> Features:
    "Of 8 channels."
    cells = grid[0] * grid[1]
    return Features(unit(images, 8, cells), uniform(images, cells), unit(images, 8), grid)


def some_ranking() -> Ranking:
    "Each image of `some_features` asks for the others."
    x = some_features()
    return search(x, x, exclude_self=True)


def masses(*shape) -> torch.Tensor:
    "With the sum 1 along the last axis."
    return uniform(*shape) / uniform(*shape).sum(-1, keepdim=True)


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
