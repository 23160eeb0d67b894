"""What does one training step cost: the losses of this library against a loop that follows the official algorithm?

`python bench/step.py --cells 4` prints one line of JSON: medians of paired ratios, interleaved in one process; peak memory of each, from
fresh processes; and how far loss and gradient of the two agree when ours runs with the official switches (swap_marginals, shared_stop).
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diml_nb.losses import make_loss


def official_plan(kernel_pnm: Tensor, mass_pn: Tensor, mass_pm: Tensor) -> Tensor:
    "Scaling of a whole call together, rows first, until no pair's row factors move by .1 on average."
    u_pn, v_pm = torch.ones_like(mass_pn), torch.ones_like(mass_pm)
    for _ in range(100):
        before = u_pn
        u_pn = mass_pn / (kernel_pnm @ v_pm.unsqueeze(2)).squeeze(2)
        v_pm = mass_pm / (kernel_pnm.transpose(1, 2) @ u_pn.unsqueeze(2)).squeeze(2)
        if (u_pn - before).abs().mean(1).max() < 0.1: break
    return u_pn.unsqueeze(2) * v_pm.unsqueeze(1) * kernel_pnm


def official_pairs(a_pchw: Tensor, b_pchw: Tensor, distances: bool) -> Tensor:
    "The training similarity (or distance) of each pair, its masses on the wrong side, every tensor of the call in memory at once."
    a_pcn, b_pcm = normalize(a_pchw.flatten(2), dim=1), normalize(b_pchw.flatten(2), dim=1)
    whole_a, whole_b = normalize(a_pchw.mean((2, 3)), dim=1), normalize(b_pchw.mean((2, 3)), dim=1)
    weight_b, weight_a = torch.einsum("pc,pcm->pm", whole_a, b_pcm).relu(), torch.einsum("pc,pcn->pn", whole_b, a_pcn).relu()
    local_pnm = torch.einsum("pcn,pcm->pnm", a_pcn, b_pcm)
    with torch.no_grad():
        rows, columns = (w / (w.sum(1, keepdim=True) + 1e-5) for w in (weight_b, weight_a))      # swapped
        plan_pnm = official_plan(((local_pnm - 1) / 0.05).exp(), rows, columns)
    if not distances: return (plan_pnm * (local_pnm + (whole_a * whole_b).sum(1)[:, None, None]) / 2).sum((1, 2))
    apart_pnm = ((a_pcn.unsqueeze(3) - b_pcm.unsqueeze(2)) ** 2).sum(1).add(1e-6).sqrt()
    return ((plan_pnm * apart_pnm).sum((1, 2)) + ((whole_a - whole_b) ** 2).sum(1).add(1e-6).sqrt()) / 2


def official_multi_similarity(map_bchw: Tensor, label_b: Tensor, _) -> Tensor:
    "All ordered pairs in one call, then a loop over anchors."
    size, terms = len(map_bchw), []
    s_bb = official_pairs(map_bchw.repeat_interleave(size, 0), map_bchw.repeat(size, 1, 1, 1), False).view(size, size)
    for i in range(size):
        positive, negative = s_bb[i][(label_b == label_b[i]) & (torch.arange(size) != i)], s_bb[i][label_b != label_b[i]]
        hard_p, hard_n = positive[positive - 0.1 < negative.max()], negative[negative + 0.1 > positive.min()]
        if len(hard_p) and len(hard_n):
            terms.append((1 + (-2 * (hard_p - 0.5)).exp().sum()).log() / 2 + (1 + (40 * (hard_n - 0.5)).exp().sum()).log() / 40)
    return torch.stack(terms).mean()


def official_margin(map_bchw: Tensor, label_b: Tensor, triplets: tuple[Tensor, ...]) -> Tensor:
    "A loop over triplets, two calls each."
    terms = []
    for a, p, n in zip(*(x.tolist() for x in triplets)):
        near, far = (official_pairs(map_bchw[a : a + 1], map_bchw[x : x + 1], True) for x in (p, n))
        terms.append((near - 1.2 + 0.2).relu() + (1.2 - far + 0.2).relu())
    terms = torch.cat(terms)
    return terms.sum() / (terms > 0).sum()


def batch(cells: int, channels: int = 128, images: int = 112) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    "Synthetic maps of 56 classes of two, and one triplet for each image."
    torch.manual_seed(0)
    map_bchw = torch.randn(images // 2, channels, cells, cells).repeat_interleave(2, 0) + 2 * torch.randn(images, channels, cells, cells) + 0.5
    index = torch.arange(images)
    return map_bchw, index // 2, (index, index ^ 1, (index + 2 * torch.randint(1, images // 2, (images,))) % images)


class Fixed(torch.nn.Module):
    "A miner that returns the given triplets."
    distance = None
    def __init__(self, triplets): super().__init__(); self.triplets = triplets
    def forward(self, *_): return self.triplets


def ours(name: str, cells: int, triplets, **options):
    metric = make_loss(name, structural=True, num_classes=56, grid=cells, distance=options)
    if name == "margin": metric.miner = Fixed(triplets)
    return lambda map_bchw, label_b, _: metric(map_bchw, label_b)


def step(loss, map_bchw, label_b, triplets):
    "Seconds, loss and gradient of one forward and backward pass."
    map_bchw = map_bchw.clone().requires_grad_()
    start = time.perf_counter()
    value = loss(map_bchw, label_b, triplets)
    value.backward()
    return time.perf_counter() - start, value.item(), map_bchw.grad


def official(name: str): return dict(multi_similarity=official_multi_similarity, margin=official_margin)[name]


def peak_of(which: str, name: str, cells: int) -> int:
    "Megabytes that one step adds to this process at its peak; to be asked of a fresh one."
    data = batch(cells)
    loss = official(name) if which == "official" else ours(name, cells, data[2])
    memory = lambda key: int(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key)).split()[1])
    Path("/proc/self/clear_refs").write_text("5")        # forget the peak of the imports
    before = memory("VmRSS")
    step(loss, *data)
    return (memory("VmHWM") - before) // 1024


def measure(name: str, cells: int, repeats: int) -> dict:
    data = batch(cells)
    fast, same = ours(name, cells, data[2]), ours(name, cells, data[2], swap_marginals=True, shared_stop=True, max_iter=100)
    _, value, grad = step(official(name), *data)
    _, our_value, our_grad = step(same, *data)
    agreement = dict(loss=abs(value - our_value), gradient=((grad - our_grad).norm() / grad.norm()).item())
    assert agreement["loss"] < 1e-5 and agreement["gradient"] < 1e-4, agreement
    pairs = [(step(official(name), *data)[0], step(fast, *data)[0]) for _ in range(repeats)]
    command = [sys.executable, __file__, "--loss", name, "--cells", str(cells), "--peak"]
    peak = {which: int(subprocess.run([*command, which], capture_output=True, text=True, check=True).stdout) for which in ("official", "ours")}
    return dict(loss=name, cells=cells, images=112, channels=128, threads=torch.get_num_threads(), agreement=agreement,
                seconds_official=statistics.median(a for a, _ in pairs), seconds_ours=statistics.median(b for _, b in pairs),
                ratio=statistics.median(a / b for a, b in pairs), extra_mb_official=peak["official"], extra_mb_ours=peak["ours"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", default="multi_similarity", choices=("multi_similarity", "margin"))
    parser.add_argument("--cells", type=int, default=4, help="cells a side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=("official", "ours"), help="print the megabytes that one step adds at its peak, and nothing else (Linux)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak: print(peak_of(given.peak, given.loss, given.cells))
    else: print(json.dumps(measure(given.loss, given.cells, given.repeats)))
