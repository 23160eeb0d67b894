"""Synthetic feature maps with classes, families of classes and parts, as a function of the number
of the image."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diml_nb.features.grid import Features, grid_features

# images drawn from one seed; a range of images is the same whatever ranges were asked for before
CHUNK = 1024


@dataclass(frozen=True)
class Synthetic:
    """`images` maps of `grid` x `grid` cells in classes of `per_class`; image i belongs to class i
    modulo the number of classes.

    Offset and decay are such that cosines, masses and Sinkhorn iterations of 4 x 4 cells resemble
    those of EfficientNet-Lite0 on the embedded images (there the official rule stops after 9 to 35
    iterations, median 18; here 16 to 26, median 20). Its 7 x 7 cells need three times as many as
    ours here.
    """

    images: int
    grid: int = 4
    channels: int = 128
    per_class: int = 60
    seed: int = 0
    offset: float = 1.0  # what all cells share
    # channel c varies like (c + 1) ** -decay: a network's channels are not independent
    decay: float = 0.35

    @property
    def classes(self) -> int:
        return max(2, self.images // self.per_class)

    @property
    def label_n(self) -> Tensor:
        return torch.arange(self.images) % self.classes

    def _draw(self, number: int, *shape: int) -> Tensor:
        return torch.randn(
            shape, generator=torch.Generator().manual_seed(self.seed * 10**9 + number)
        )

    @cached_property
    def scale_c11(self) -> Tensor:
        scale_c = torch.arange(1, self.channels + 1) ** -self.decay
        return (scale_c / scale_c.square().mean().sqrt()).view(-1, 1, 1)

    @cached_property
    def class_ichw(self) -> Tensor:
        """What the images of a class share: some of the whole, some of each cell, and part of both
        with the other classes of their family."""
        families = max(2, round(self.classes**0.5))

        def of(number, count):
            return 0.25 * self._draw(number, count, self.channels, 1, 1) + self._draw(
                number + 1, count, self.channels, self.grid, self.grid
            )

        return 0.6 * of(10**8, families)[torch.arange(self.classes) % families] + 0.8 * of(
            10**8 + 2, self.classes
        )

    def maps(self, start: int, stop: int) -> Tensor:
        """Maps (stop - start, C, grid, grid): that of the class, noise on the whole and noise on
        each cell."""
        found = []
        for chunk in range(start // CHUNK, -(-stop // CHUNK)):
            first, size = chunk * CHUNK, (CHUNK, self.channels)
            low, high = max(start, first) - first, min(stop, first + CHUNK) - first
            noise = (
                self._draw(2 * chunk, *size, self.grid, self.grid)
                .mul_(1.5)
                .add_(self._draw(2 * chunk + 1, *size, 1, 1), alpha=0.4)[low:high]
            )
            found.append(
                noise.add_(self.class_ichw[torch.arange(first + low, first + high) % self.classes])
                .mul_(self.scale_c11)
                .add_(self.offset)
            )
        return torch.cat(found)

    def features(self, start: int, stop: int) -> Features:
        return grid_features(self.maps(start, stop), grid=self.grid)

    def all(self) -> Features:
        "The features of all images, made in blocks and written where they stay."
        cells = self.grid**2
        x = Features(
            torch.empty(self.images, self.channels, cells),
            torch.empty(self.images, cells),
            torch.empty(self.images, self.channels),
            (self.grid, self.grid),
        )
        for start in range(0, self.images, CHUNK):
            part = self.features(start, min(start + CHUNK, self.images))
            rows = slice(start, start + CHUNK)
            x.local_bcn[rows] = part.local_bcn
            x.norm_bn[rows] = part.norm_bn
            x.global_bc[rows] = part.global_bc
        return x
