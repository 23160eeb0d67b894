"""What does one training step cost: the losses of this library against a loop that follows the
official algorithm?

`python -m bench.step --grid 4` prints one line of JSON: medians of paired ratios, interleaved in
one process, and how far loss and gradient of the two agree when ours runs with the official
switches (swap_marginals, stopping). With `--peak` it prints the memory of one step.
"""

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.evaluation import official_plan
from bench.measure import interleaved, others, peak_mb, present_device, ratio, spread, threads
from diml_nb.learning.losses import make_loss

# the slow twin: the official algorithm


def official_pairs(a_pchw: Tensor, b_pchw: Tensor, distances: bool) -> Tensor:
    """The training similarity (or distance) of each pair, its masses on the wrong side, every
    tensor of the call in memory at once."""
    a_pcn, b_pcm = normalize(a_pchw.flatten(2), dim=1), normalize(b_pchw.flatten(2), dim=1)
    whole_a, whole_b = normalize(a_pchw.mean((2, 3)), dim=1), normalize(b_pchw.mean((2, 3)), dim=1)
    weight_b = torch.einsum("pc,pcm->pm", whole_a, b_pcm).relu()
    weight_a = torch.einsum("pc,pcn->pn", whole_b, a_pcn).relu()
    cosine_pnm = torch.einsum("pcn,pcm->pnm", a_pcn, b_pcm)
    with torch.no_grad():
        rows, columns = (
            w / (w.sum(1, keepdim=True) + 1e-5) for w in (weight_b, weight_a)
        )  # swapped
        plan_pnm, _ = official_plan(((cosine_pnm - 1) / 0.05).exp(), rows, columns)
    if not distances:
        return (plan_pnm * (cosine_pnm + (whole_a * whole_b).sum(1)[:, None, None]) / 2).sum((1, 2))
    apart_pnm = ((a_pcn.unsqueeze(3) - b_pcm.unsqueeze(2)) ** 2).sum(1).add(1e-6).sqrt()
    return (
        (plan_pnm * apart_pnm).sum((1, 2)) + ((whole_a - whole_b) ** 2).sum(1).add(1e-6).sqrt()
    ) / 2


def official_multi_similarity(map_bchw: Tensor, label_b: Tensor, _) -> Tensor:
    "All ordered pairs in one call, then a loop over anchors."
    size, terms = len(map_bchw), []
    s_bb = official_pairs(
        map_bchw.repeat_interleave(size, 0), map_bchw.repeat(size, 1, 1, 1), False
    ).view(size, size)
    for i in range(size):
        same = label_b == label_b[i]
        negative = s_bb[i][~same]
        same[i] = False
        positive = s_bb[i][same]
        hard_p = positive[positive - 0.1 < negative.max()]
        hard_n = negative[negative + 0.1 > positive.min()]
        if len(hard_p) and len(hard_n):
            terms.append(
                (1 + (-2 * (hard_p - 0.5)).exp().sum()).log() / 2
                + (1 + (40 * (hard_n - 0.5)).exp().sum()).log() / 40
            )
    return torch.stack(terms).mean()


def official_margin(map_bchw: Tensor, label_b: Tensor, triplets: tuple[Tensor, ...]) -> Tensor:
    "A loop over triplets, two calls each."
    terms = []
    for a, p, n in zip(*(x.tolist() for x in triplets), strict=True):
        near, far = (official_pairs(map_bchw[a : a + 1], map_bchw[x : x + 1], True) for x in (p, n))
        terms.append((near - 1.2 + 0.2).relu() + (1.2 - far + 0.2).relu())
    term_p = torch.cat(terms)
    return term_p.sum() / (term_p > 0).sum()


OFFICIAL = {"multi_similarity": official_multi_similarity, "margin": official_margin}


# both on the same batch


def batch(
    grid: int, images: int = 112, channels: int = 128, device: str = "cpu"
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    "Synthetic maps of classes of two, and one triplet for each image."
    torch.manual_seed(0)
    map_bchw = (
        torch.randn(images // 2, channels, grid, grid).repeat_interleave(2, 0)
        + 2 * torch.randn(images, channels, grid, grid)
        + 0.5
    )
    index = torch.arange(images)
    triplets = index, index ^ 1, (index + 2 * torch.randint(1, images // 2, (images,))) % images
    return map_bchw.to(device), (index // 2).to(device), tuple(x.to(device) for x in triplets)


class Fixed(torch.nn.Module):
    "A miner that returns the given triplets."

    distance = None

    def __init__(self, triplets):
        super().__init__()
        self.triplets = triplets

    def forward(self, *_):
        return self.triplets


def ours(name: str, grid: int, data, **options) -> Callable:
    "This library's loss, with the same signature as the twin's."
    map_bchw, label_b, triplets = data
    metric = make_loss(
        name,
        structural=True,
        num_classes=int(label_b.max()) + 1,
        embedding_dim=map_bchw.shape[1],
        grid=grid,
        distance=options,
    ).to(map_bchw.device)
    if name == "margin":
        metric.miner = Fixed(triplets)
    return lambda map_bchw, label_b, _: metric(map_bchw, label_b)


def step(loss: Callable, map_bchw: Tensor, label_b: Tensor, triplets) -> tuple[float, Tensor]:
    "Loss and gradient of one forward and backward pass."
    map_bchw = map_bchw.clone().requires_grad_()
    value = loss(map_bchw, label_b, triplets)
    value.backward()
    assert map_bchw.grad is not None
    return value.item(), map_bchw.grad


def check(name: str, grid: int, data) -> dict:
    """Difference of the loss and relative one of the gradient from the twin's, with the official
    switches: within 1e-6 and 1e-5, or an AssertionError.

    Some of it is no rounding: official masses miss 1 by 1e-6, and the twin of Multi-Similarity also
    weighs the global cosine by them.
    """
    value, grad = step(OFFICIAL[name], *data)
    our_value, our_grad = step(
        ours(name, grid, data, swap_marginals=True, stopping="batch_max", max_iter=100), *data
    )
    found = dict(
        loss=abs(value - our_value), gradient=((grad - our_grad).norm() / grad.norm()).item()
    )
    assert found["loss"] < 1e-6, found
    assert found["gradient"] < 1e-5, found
    return found


def measure(name: str, grid: int, data, rounds: int) -> dict:
    """Milliseconds of a step (median, first and last decile over rounds), and the median of the
    ratios of pairs."""
    fast = ours(name, grid, data)
    with others() as busy:
        took = interleaved(
            {
                "official": lambda _: step(OFFICIAL[name], *data),
                "ours": lambda _: step(fast, *data),
            },
            rounds,
        )
    return busy | dict(
        ms={which: spread([1e3 * t for t in x]) for which, x in took.items()},
        ratio={"ours": ratio(took["official"], took["ours"])},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loss", default="multi_similarity", choices=OFFICIAL)
    parser.add_argument("--grid", type=int, default=4, help="cells a side")
    parser.add_argument("--images", type=int, default=112)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=present_device, default="cpu")
    parser.add_argument(
        "--peak",
        choices=("official", "ours"),
        help="print the megabytes that one step adds at its peak, and nothing else (Linux)",
    )
    given = parser.parse_args()
    with threads(given.threads):
        data = batch(given.grid, given.images, given.channels, given.device)
        loss = (
            OFFICIAL[given.loss] if given.peak == "official" else ours(given.loss, given.grid, data)
        )
        if given.peak:
            print(json.dumps(peak_mb(lambda: step(loss, *data), given.device)))
        else:
            print(
                json.dumps(
                    dict(check=check(given.loss, given.grid, data))
                    | measure(given.loss, given.grid, data, given.rounds)
                )
            )
