"""What does a query cost: search, re-rank and metrics of this library, against a loop that follows
the official algorithm and other rivals?

`python -m bench.evaluation --grid 4 --images 6000` prints one line of JSON. Before anything is
timed the results are checked: ours against `match` query by query, ours with the official stop rule
against the loop.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.measure import (
    interleaved,
    others,
    peak_mb,
    present_device,
    ratio,
    roofline,
    spread,
    threads,
)
from bench.synthetic import Synthetic
from diml_nb.features.grid import Features
from diml_nb.ot.marginals import compute_marginals
from diml_nb.ot.matching import MatchOptions, match
from diml_nb.ot.native import native_library
from diml_nb.retrieval.metrics import METRIC_NAMES, Ranking, retrieval_metrics
from diml_nb.retrieval.rerank import rerank, rerank_by, score_shortlist
from diml_nb.retrieval.search import search

TOP_K, EPS, TOL = 100, 0.05, 1e-3


class Task:
    """A synthetic set on a device, and the images of it that ask: a block of queries, each against
    all other images."""

    def __init__(
        self,
        images: int,
        grid: int,
        per_class: int,
        block: int,
        device: str = "cpu",
        channels: int = 128,
    ):
        made = Synthetic(images, grid, channels, per_class)
        self.x, self.label_n = made.all().to(device), made.label_n.to(device)
        self.position_q = (
            torch.arange(min(block, images), device=device) * images // min(block, images)
        )
        self.top_k = min(TOP_K, images - 1)
        self.places = min(
            max(self.top_k, 8, int(self.label_n.bincount().max())), images - 1
        )  # with the query, as the official R counts

    def some(self, turn: int, count: int) -> Tensor:
        "Rows of the block for a slow rival: other ones at each turn."
        return (torch.arange(count, device=self.position_q.device) + turn * count) % len(
            self.position_q
        )


# ours


def ours_search(task: Task, position_q: Tensor) -> Ranking:
    return search(task.x[position_q], task.x, query_positions=position_q, top_k=task.places)


def ours_rerank(task: Task, position_q: Tensor, ranking: Ranking, **solver) -> Ranking:
    return rerank(
        ranking, task.x[position_q], task.x, top_k=task.top_k, eps=EPS, **(dict(tol=TOL) | solver)
    )


def ours_metrics(task: Task, position_q: Tensor, ranking: Ranking, count_query_in_r: bool = False):
    return retrieval_metrics(
        ranking, task.label_n[position_q], task.label_n, count_query_in_r=count_query_in_r
    )


def ours(task: Task):
    ranking = ours_search(task, task.position_q)
    return ours_metrics(task, task.position_q, ours_rerank(task, task.position_q, ranking))


# the slow twin: the official algorithm


def official_plan(
    kernel_pnm: Tensor, mass_pn: Tensor, mass_pm: Tensor, over: Callable = torch.amax
) -> tuple[Tensor, int]:
    """Scaling of a whole call together, rows first, until its row factors move by less than .1 on
    average (in the worst pair, or `over` all pairs)."""
    u_pn, v_pm = torch.ones_like(mass_pn), torch.ones_like(mass_pm)
    for iterations in range(1, 101):  # noqa: B007 (returned below)
        before = u_pn
        u_pn = mass_pn / (kernel_pnm @ v_pm.unsqueeze(2)).squeeze(2)
        v_pm = mass_pm / (kernel_pnm.transpose(1, 2) @ u_pn.unsqueeze(2)).squeeze(2)
        if over((u_pn - before).abs().mean(1)) < 0.1:
            break
    return u_pn.unsqueeze(2) * v_pm.unsqueeze(1) * kernel_pnm, iterations


@torch.no_grad()
def official_similarity(a: Features, b: Features) -> tuple[Tensor, int]:
    "S of one image with K others, solved as one call by the official rule, and its iterations."
    local_knm = torch.einsum("cn,kcm->knm", a.local_bcn[0], b.local_bcn)
    weight_kn = torch.einsum("kc,cn->kn", b.global_bc, a.local_bcn[0]).relu()
    weight_km = torch.einsum("c,kcm->km", a.global_bc[0], b.local_bcn).relu()
    mass_kn, mass_km = (w / (w.sum(1, keepdim=True) + 1e-5) for w in (weight_kn, weight_km))
    plan_kmn, iterations = official_plan(
        ((local_knm - 1) / EPS).exp().transpose(1, 2), mass_km, mass_kn, torch.mean
    )
    return (plan_kmn.transpose(1, 2) * local_knm).sum((1, 2)), iterations


def official_query(task: Task, i: int) -> tuple[Tensor, list[float], int]:
    """The list of one query, its metrics by the official convention (R counts the query) and the
    iterations."""
    x = task.x
    score_g = x.global_bc @ x.global_bc[i]
    score_g[i] = -torch.inf
    score_g, index_g = score_g.sort(descending=True)
    head = index_g[: task.top_k]
    similarity_k, iterations = official_similarity(x[i], x[head])
    index_g[: task.top_k] = head[(score_g[: task.top_k] + similarity_k).argsort(descending=True)]
    r = int((task.label_n == task.label_n[i]).sum())
    right_r = (task.label_n[index_g[:r]] == task.label_n[i]).double()
    precision_r = right_r.cumsum(0) / torch.arange(1, r + 1, device=right_r.device)
    return (
        index_g,
        [right_r[0].item(), right_r.mean().item(), ((precision_r * right_r).sum() / r).item()],
        iterations,
    )


def official(task: Task, rows: Tensor) -> list:
    return [official_query(task, i) for i in task.position_q[rows].tolist()]


# other rivals: the same lists, re-ranked query by query


def by_match(a: Features, b: Features) -> Tensor:
    return match(a, b, eps=EPS, tol=TOL).similarity_b


def by_pot(a: Features, b: Features) -> Tensor:
    """Sinkhorn of POT, in scaling factors, to the same error of the masses (POT looks at it every
    ten iterations)."""
    from ot.batch import solve_batch

    local_knm, masses = a.local_bcn.transpose(1, 2) @ b.local_bcn, compute_marginals(a, b)
    plan_knm = solve_batch(
        1 - local_knm,
        reg=EPS,
        a=masses.mass_a_bn,
        b=masses.mass_b_bm,
        method="sinkhorn",
        tol=TOL,
        max_iter=200,
        grad="detach",
    ).plan
    return (plan_knm * local_knm).sum((1, 2))


def one_by_one(task: Task, rows: Tensor, ranking: Ranking, similarity) -> Ranking:
    "Re-rank some rows of the block, gathering each query's candidates for one call."
    kept = Ranking(ranking.index_qk[rows], ranking.score_qk[rows])
    return rerank_by(
        kept,
        torch.stack(
            [
                similarity(task.x[i], task.x[index_k[: task.top_k]])
                for i, index_k in zip(task.position_q[rows].tolist(), kept.index_qk, strict=True)
            ]
        ),
    )


def rivals(device: str | torch.device) -> dict:
    "Those that can run here, and in words why another cannot."
    try:
        import ot.batch  # noqa: F401 (is it there? by_pot imports it)
    except ImportError as error:
        return {"match": by_match, "POT": f"not measured: {error}"}
    return {
        "match": by_match,
        "POT": (
            by_pot
            if torch.device(device).type == "cpu"
            else "not measured: its batched Sinkhorn starts on the CPU"
        ),
    }


# are the results the same?


def gap(lists: Tensor, expected: Ranking) -> float:
    """Largest difference of expected scores where two sets of lists differ: 0 for equal lists, the
    size of a tie for swaps; infinite for other images."""
    index_qk, score_qk = (x[:, : lists.shape[1]] for x in expected[:2])
    there_qkk = lists.unsqueeze(2) == index_qk.unsqueeze(1)
    score_of_qk = torch.where(
        there_qkk.any(2), (there_qkk * score_qk.unsqueeze(1)).sum(2), torch.inf
    )
    return (
        (score_of_qk - score_qk).abs()[lists != index_qk].max().item()
        if (lists != index_qk).any()
        else 0.0
    )


class Compared(NamedTuple):
    "Lists of some queries, re-ranked by this library and by `match`."

    part: Ranking  # before the re-ranking
    expected_qk: Tensor  # similarities by `match`
    found: dict  # the largest differences


def against_match(task: Task, rows: Tensor, searched: Ranking) -> Compared:
    "Similarities and lists of some queries of the block beside those of `match`, query by query."
    position_q = task.position_q[rows]
    part = Ranking(searched.index_qk[rows], searched.score_qk[rows], searched.exclude_self)
    ours_k = score_shortlist(part, task.x[position_q], task.x, top_k=task.top_k, eps=EPS, tol=TOL)
    pairs = [
        match(task.x[i], task.x[k[: task.top_k]], eps=EPS, tol=TOL)
        for i, k in zip(position_q.tolist(), part.index_qk, strict=True)
    ]
    expected_qk = torch.stack([x.similarity_b for x in pairs])
    error_qk = torch.stack([x.marginal_error_b for x in pairs])
    # where rounding decides whether to go on
    errors = ours_k.marginal_error_qk, error_qk
    ours_on_edge_qk, theirs_on_edge_qk = ((x / TOL - 1).abs() < 1e-4 for x in errors)
    edge_qk = ours_on_edge_qk | theirs_on_edge_qk
    off_qk = (ours_k.similarity_qk - expected_qk).abs()
    found = dict(
        similarity=off_qk[~edge_qk].max().item(),
        stops_by_rounding=int((edge_qk & (off_qk > 1e-6)).sum()),
        lists=gap(
            ours_rerank(task, task.position_q, searched).index_qk[rows],
            rerank_by(part, torch.where(edge_qk, ours_k.similarity_qk, expected_qk)),
        ),
    )
    return Compared(part, expected_qk, found)


def sample(task: Task, queries: int) -> Tensor:
    "Rows of some queries of the block, evenly spread."
    count = min(queries, len(task.position_q))
    return torch.arange(count) * len(task.position_q) // count


def check(task: Task, queries: int) -> dict:
    "Largest differences of results on some queries, each within its bound or an AssertionError."
    rows = sample(task, queries)
    position_q = task.position_q[rows]
    searched = ours_search(task, task.position_q)
    part, expected_qk, found = against_match(task, rows, searched)
    same = ours_rerank(task, task.position_q, searched, stopping="batch_mean", max_iter=100)
    slow = official(task, rows)
    metrics = ours_metrics(task, task.position_q, same, count_query_in_r=True).per_query
    values_q3 = torch.tensor([x for _, x, _ in slow], device=position_q.device, dtype=torch.double)
    lists_qk = torch.stack([x[: task.places] for x, _, _ in slow])
    equal_q = (lists_qk == same.index_qk[rows]).all(
        1
    )  # where a tie was swapped the metrics may differ
    found |= dict(
        lists_official=gap(lists_qk, Ranking(same.index_qk[rows], same.score_qk[rows])),
        equal_lists_official=int(equal_q.sum()),
        metrics_official=max(
            (metrics[name][rows] - values_q3[:, k])[equal_q].abs().max().item()
            for k, name in enumerate(METRIC_NAMES)
        ),
    )
    pot = rivals(task.x.global_bc.device)["POT"]
    if not isinstance(pot, str):
        by_pot_qk = torch.stack(
            [
                pot(task.x[i], task.x[k[: task.top_k]])
                for i, k in zip(position_q.tolist(), part.index_qk, strict=True)
            ]
        )
        found["similarity_POT"] = (
            (by_pot_qk - expected_qk).abs().max().item()
        )  # both stop within 1e-3 of mass
    bounds = dict(
        similarity=1e-6,
        lists=1e-6,
        lists_official=1e-6,
        metrics_official=1e-12,
        similarity_POT=2e-3,
    )
    for name, bound in bounds.items():
        assert found.get(name, 0) <= bound, (name, found, bounds)
    assert found["stops_by_rounding"] <= 2, found
    # else ours ran on plain torch
    compiled = native_library(task.x, task.x, MatchOptions()) is not None
    return found | dict(
        compiled=compiled, queries=len(rows), iterations_official=spread([n for _, _, n in slow])
    )


# measuring


def work(images: int, cells: int, channels: int, top_k: int) -> dict:
    """Useful floating point operations of a query, and bytes of candidates that the re-rank must
    read."""
    return dict(
        search=2 * images * channels,
        rerank=top_k * (2 * cells**2 * channels + 4 * cells * channels),
        bytes=4 * top_k * cells * channels,
    )


def stages(task: Task) -> tuple[dict, dict]:
    "The block of queries in three steps, and where they leave their results for the next one."
    done: dict = {}
    return {
        "search": lambda _: done.update(ranking=ours_search(task, task.position_q)),
        "rerank": lambda _: done.update(
            reranked=ours_rerank(task, task.position_q, done["ranking"])
        ),
        "metrics": lambda _: done.update(
            metrics=ours_metrics(task, task.position_q, done["reranked"])
        ),
    }, done


def measure(task: Task, rounds: int, slow: int, machine: dict) -> dict:
    """Milliseconds a query of ours and of the rivals (median, first and last decile over rounds),
    and medians of ratios of pairs."""
    steps, done = stages(task)
    able = {
        name: x for name, x in rivals(task.x.global_bc.device).items() if not isinstance(x, str)
    }

    def one(x):
        return lambda turn: one_by_one(task, task.some(turn, slow), done["ranking"], x)

    works = (
        {"official": lambda turn: official(task, task.some(turn, slow))}
        | steps
        | {name: one(x) for name, x in able.items()}
    )
    with others() as busy:
        took = interleaved(works, rounds)
    ms = {
        name: [1e3 * t / (len(task.position_q) if name in steps else slow) for t in x]
        for name, x in took.items()
    }
    ms["ours"] = [sum(x) for x in zip(*(ms[name] for name in steps), strict=True)]
    for name in able:
        # the whole path of a rival shares our search
        ms[name] = [sum(x) for x in zip(ms["search"], ms[name], ms["metrics"], strict=True)]
    useful = work(len(task.x), task.x.norm_bn.shape[1], task.x.global_bc.shape[1], task.top_k)
    flops = useful["search"] + useful["rerank"]
    least = 1e-6 * (
        useful["search"] / machine["gflops"]
        + max(useful["rerank"] / machine["gflops"], useful["bytes"] / machine["gbs"])
    )
    median = statistics.median(ms["ours"])
    return busy | dict(
        ms={name: spread(x) for name, x in ms.items()},
        ratio={name: ratio(ms["official"], ms[name]) for name in ("ours", *able)},
        unable={
            name: x for name, x in rivals(task.x.global_bc.device).items() if isinstance(x, str)
        },
        gflops=1e-6 * flops / median,
        share_of_peak=1e-6 * flops / median / machine["gflops"],
        roofline_ms=least,
        share_of_roofline=least / median,
    )


def peak(which: str, task: Task) -> dict:
    "Peak memory that a block of queries takes."
    work = (
        (lambda: ours(task))
        if which == "ours"
        else (lambda: [official_query(task, i)[1] for i in task.position_q.tolist()])
    )
    return peak_mb(work, task.x.global_bc.device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=int, default=4, help="cells a side")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--block", type=int, default=512, help="queries of a block")
    parser.add_argument("--slow", type=int, default=24, help="queries a round of the slow rivals")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=present_device, default="cpu")
    parser.add_argument(
        "--peak",
        choices=("official", "ours"),
        help="print the megabytes that one block adds at its peak, and nothing else (Linux)",
    )
    given = parser.parse_args()
    with threads(given.threads):
        task = Task(given.images, given.grid, given.per_class, given.block, given.device)
        if given.peak:
            print(json.dumps(peak(given.peak, task)))
        else:
            print(
                json.dumps(
                    dict(check=check(task, given.slow))
                    | measure(task, given.rounds, given.slow, roofline(device=given.device))
                )
            )
