"""What does training cost on a GPU? Steps of a whole network by precision, layout of memory and
checkpointing, memory predicted and measured, and how many images a second the loader brings.

`bench.gpu` calls it.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.measure import peak_mb, seconds, spread, tensor_cores
from diml_nb._internal.device import tf32_convolutions
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.backbones import get_backbone
from diml_nb.learning.losses import make_loss
from diml_nb.learning.network import EmbeddingInputs, EmbeddingNet
from diml_nb.learning.step_memory import measure_peak_bytes


class Size(NamedTuple):
    "What is trained."

    backbone: str  # with random weights
    image_size: int
    images: int  # in a step, two of each class
    embedding_dim: int
    grid: int


class Switches(NamedTuple):
    "How it is trained."

    precision: str = "no"  # or "bf16", as of `train`; "float32": without TF32
    channels_last: bool = False
    checkpointing: bool = False
    compiler: str = ""  # a backend of torch.compile; "": none


# a step


def _checkpoint_blocks(network: nn.Module) -> None:
    "Keep of each residual block its input alone; the backward pass computes the rest again."
    for stage in network.children():
        if isinstance(stage, nn.Sequential):
            for block in stage:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@dataclass
class Trainer:
    "A network with random weights, its loss and its optimizer, on a device."

    size: Size
    switches: Switches
    device: str

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        size = self.size
        backbone = get_backbone(size.backbone, pretrained=False, image_size=size.image_size)
        side = size.image_size
        channels = backbone(torch.zeros(1, 3, side, side)).shape[1]
        if self.switches.checkpointing:
            _checkpoint_blocks(backbone.network)
        network = EmbeddingNet(backbone, channels, size.embedding_dim)
        self.network = network.to(self.device, memory_format=self.layout)
        if self.switches.compiler:
            for stage in backbone.network.children():
                if isinstance(stage, nn.Sequential):
                    stage.compile(backend=self.switches.compiler)
        self.loss = make_loss(
            "multi_similarity", structural=True, embedding_dim=size.embedding_dim, grid=size.grid
        ).to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-6)

    @property
    def layout(self) -> torch.memory_format:
        "Of images and weights."
        return torch.channels_last if self.switches.channels_last else torch.contiguous_format

    def batch(self, images: int) -> tuple[Tensor, Tensor]:
        "Images of noise on the device, and their classes."
        image_bchw = torch.randn(images, 3, self.size.image_size, self.size.image_size)
        image_bchw = image_bchw.to(self.device, memory_format=self.layout)
        return image_bchw, torch.arange(images, device=self.device) // 2

    def step(self, image_bchw: Tensor, label_b: Tensor) -> None:
        "One step of the optimizer: the matching is in float32 whatever the precision."
        kind, precision = torch.device(self.device).type, self.switches.precision
        with tensor_cores(False) if precision == "float32" else tf32_convolutions():
            with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
                map_bchw = self.network(image_bchw)
            value = self.loss(map_bchw.float(), label_b)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()


def measure_step(size: dict, switches: dict, device: str, rounds: int) -> dict:
    "Images a second, and the peak of memory beside what a few images predict."
    before = torch.cuda.memory_allocated() if device.startswith("cuda") else 0
    trainer = Trainer(Size(**size), Switches(**switches), device)
    images = trainer.size.images
    image_bchw, label_b = trainer.batch(images)
    work = partial(trainer.step, image_bchw, label_b)
    started = seconds(work)
    work()
    took = [seconds(work) for _ in range(rounds)]
    found: dict = dict(
        images_per_second=spread([images / t for t in took]), first_step_seconds=started
    )
    if device.startswith("cuda"):
        found["measured_gb"] = (1e6 * peak_mb(work, device)["peak_mb"] - before) / 1e9
    if not trainer.switches.compiler:  # compiled code hides its tensors
        found["predicted_gb"] = predicted_bytes(trainer, min(16, images), images) / 1e9
    return found


# memory, predicted


def predicted_bytes(trainer: Trainer, few: int, images: int) -> float:
    """Peak of a step of `images`, from steps of `few` and of half as many: a part that is always
    there, and a part that grows with the images. Both must be so many that the peak lies in the
    backward pass; in smaller steps it lies in the optimizer's."""
    moments = [x for state in trainer.optimizer.state.values() for x in state.values()]
    peaks = []
    for count in (few // 2, few):
        image_bchw, label_b = trainer.batch(count)
        given = [*trainer.network.parameters(), *trainer.network.buffers(), *moments, image_bchw]
        peaks.append(measure_peak_bytes(partial(trainer.step, image_bchw, label_b), given))
    slope = (peaks[1] - peaks[0]) / (few - few // 2)
    return peaks[0] + slope * (images - few // 2)


# the loader


def _loader(size: Size, batches: int, workers: int, pinned: bool) -> torch.utils.data.DataLoader:
    "Batches of augmented views of the embedded drawings, as in training."
    images = get_dataset("emoji").subset("train")
    backbone = get_backbone(size.backbone, pretrained=False, image_size=size.image_size)
    inputs = EmbeddingInputs(images, backbone, cached=False)
    keys = [
        [
            (step * size.images + k, (step * size.images + k) % len(images))
            for k in range(size.images)
        ]
        for step in range(batches)
    ]
    return torch.utils.data.DataLoader(
        inputs,
        batch_sampler=keys,
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=torch.as_tensor,
    )


def measure_loader(size: dict, device: str, feed: dict, batches: int) -> dict:
    "Images a second until they are on the device, after a first batch that starts the workers."
    workers = feed["workers"]
    batches = max(batches, 3 * workers)
    batch = iter(_loader(Size(**size), batches + max(1, workers), **feed))

    def bring(count: int) -> None:
        for _ in range(count):
            next(batch).to(device, non_blocking=feed["pinned"])

    first = seconds(bring, max(1, workers))  # each worker has started and made one
    took = seconds(bring, batches)
    return dict(images_per_second=size["images"] * batches / took, seconds_to_start=first)


def measure_loop(size: dict, switches: dict, device: str, feed: dict, batches: int) -> dict:
    "Loader and step in one loop: images a second, and the share of the time that the step waited."
    trainer = Trainer(Size(**size), Switches(**switches), device)
    images = trainer.size.images
    trainer.step(*trainer.batch(images))
    label_b = torch.arange(images, device=device) // 2
    batch = iter(_loader(trainer.size, batches + 1, **feed))
    layout = trainer.layout
    held: list[Tensor] = []

    def bring() -> None:
        held[:] = [next(batch)]

    def learn() -> None:
        image_bchw = held[0].to(device, memory_format=layout, non_blocking=feed["pinned"])
        trainer.step(image_bchw, label_b)

    waited, stepped = [], []
    for _ in range(batches + 1):
        waited.append(seconds(bring))
        stepped.append(seconds(learn))
    in_loader, in_step = sum(waited[1:]), sum(stepped[1:])
    return dict(
        images_per_second=images * batches / (in_loader + in_step),
        share_in_loader=in_loader / (in_loader + in_step),
        step_ms=1e3 * statistics.median(stepped[1:]),
    )
