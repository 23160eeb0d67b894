"""Random features, rankings and masses."""

import torch
from torch.nn.functional import normalize

from diml_nb.features.grid import Features
from diml_nb.retrieval.metrics import Ranking
from diml_nb.retrieval.search import search


def normal(*shape) -> torch.Tensor:
    "Numbers that are the same at each call with a shape."
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def unit(*shape) -> torch.Tensor:
    return normalize(normal(*shape) - 0.3, dim=1)


def some_features(images: int = 6, cells: int = 9) -> Features:
    return Features(unit(images, 8, cells), normal(images, cells), unit(images, 8), 3)


def some_ranking() -> Ranking:
    x = some_features()
    return search(x, x, exclude_self=True)


def masses(*shape) -> torch.Tensor:
    return normal(*shape) / normal(*shape).sum(-1, keepdim=True)


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
