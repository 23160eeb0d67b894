"""What does a pair of images cost on a GPU? Lists by this library, beside `match`, the log-domain
solver of POT, torch.compile and MaxSim, which needs no transport.

`bench.gpu` calls it; every rival is tried for itself, and the one that cannot run here says why.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from bench.evaluation import EPS, TOL, Task, against_match, by_match, ours_search, sample
from bench.measure import interleaved, peak_mb, seconds, spread
from diml_nb.ot.marginals import compute_marginals
from diml_nb.ot.matching import MatchOptions, match_unchecked
from diml_nb.ot.pairs import score_pairs
from diml_nb.retrieval.metrics import Ranking

MAXSIM_QUERIES = 64  # whose candidates are gathered at a time
FIXED_ITERATIONS = 20  # of the version that torch.compile can put into one graph


@dataclass
class Lists:
    "Queries of a synthetic set on a device, and the candidates of each."

    grid: int
    images: int
    per_class: int
    queries: int
    device: str
    slow: int  # queries a round of `match`, which takes them one by one
    pairs: int  # of a call of the rivals that need the pairs' cosines in memory

    @cached_property
    def task(self) -> Task:
        return Task(self.images, self.grid, self.per_class, self.queries, self.device)

    @cached_property
    def searched(self) -> Ranking:
        return ours_search(self.task, self.task.position_q)

    @property
    def index_qk(self) -> Tensor:
        "The candidates: all are scored."
        return self.searched.index_qk[:, : self.task.top_k]

    def positions(self, turn: int = 0, pairs: int | None = None) -> tuple[Tensor, Tensor]:
        "Positions i_p and j_p of all pairs, or of some, other ones at each turn."
        i_p = self.task.position_q.repeat_interleave(self.task.top_k)
        j_p = self.index_qk.reshape(-1)
        if pairs is None:
            return i_p, j_p
        some = (torch.arange(pairs, device=i_p.device) + turn * pairs) % len(i_p)
        return i_p[some], j_p[some]


# what is timed


def by_library(lists: Lists) -> Tensor:
    "S of all pairs, by whatever `score_pairs` chooses on this device."
    x, (i_p, j_p) = lists.task.x, lists.positions()
    return score_pairs(x, x, i_p, j_p, eps=EPS, tol=TOL).similarity_p


def by_maxsim(lists: Lists) -> Tensor:
    "The mean over a query's cells of the best cosine in the candidate: what transport is added to."
    cells_bcn, position_q = lists.task.x.local_bcn, lists.task.position_q
    found = []
    for i_q, index_qk in zip(
        position_q.split(MAXSIM_QUERIES), lists.index_qk.split(MAXSIM_QUERIES), strict=True
    ):
        cosine_qknm = cells_bcn[i_q].mT.unsqueeze(1) @ cells_bcn[index_qk]
        found.append(cosine_qknm.amax(3).mean(2).reshape(-1))
    return torch.cat(found)


def by_fused_maxsim(lists: Lists) -> Tensor:
    "The same in one kernel, whose products are those of the library's."
    if lists.device == "cpu":
        raise RuntimeError("its kernel is made for a GPU")
    from bench.maxsim import maxsim

    return maxsim(lists.task.x, *lists.positions())


def by_match_alone(lists: Lists, turn: int) -> Tensor:
    "A query at a time by `match`, as somebody would write it first."
    x, rows = lists.task.x, lists.task.some(turn, lists.slow)
    position_q, index_qk = lists.task.position_q[rows], lists.index_qk[rows]
    return torch.cat([by_match(x[i], x[k]) for i, k in zip(position_q.tolist(), index_qk)])


def by_match_at_once(lists: Lists, turn: int) -> Tensor:
    "Many pairs in one call of `match`, their cells gathered before."
    x, (i_p, j_p) = lists.task.x, lists.positions(turn, lists.pairs)
    return match_unchecked(x[i_p], x[j_p], MatchOptions(eps=EPS, tol=TOL)).similarity_b


def pot_solver(lists: Lists) -> Callable[[int], Tensor]:
    """S by POT's batched log-domain Sinkhorn. It only solves: cosines and masses are made before
    the clock starts, and its stop asks the worst pair of the call."""
    from ot.batch import solve_batch

    x, (i_p, j_p) = lists.task.x, lists.positions(0, lists.pairs)
    a, b = x[i_p], x[j_p]
    cosine_pnm, masses = a.local_bcn.mT @ b.local_bcn, compute_marginals(a, b)

    def solve(_: int) -> Tensor:
        options = dict(reg=EPS, method="log_sinkhorn", tol=TOL, max_iter=200, grad="detach")
        mass = dict(a=masses.mass_a_bn, b=masses.mass_b_bm)
        plan_pnm = solve_batch(1 - cosine_pnm, **mass, **options).plan
        return (plan_pnm * cosine_pnm).sum((1, 2))

    return solve


def fixed_similarity(
    a_pcn: Tensor, b_pcm: Tensor, whole_a_pc: Tensor, whole_b_pc: Tensor
) -> Tensor:
    """S by a fixed number of Sinkhorn iterations: no stop asks for values, so torch.compile finds
    one graph. Products are written as sums, which it can fuse."""
    cosine_pnm = a_pcn.mT @ b_pcm
    weight_pn = torch.einsum("pc,pcn->pn", whole_b_pc, a_pcn).relu() + 1e-9
    weight_pm = torch.einsum("pc,pcm->pm", whole_a_pc, b_pcm).relu() + 1e-9
    mass_pn, mass_pm = (x / x.sum(1, keepdim=True) for x in (weight_pn, weight_pm))
    kernel_pnm = ((cosine_pnm - cosine_pnm.amax((1, 2), keepdim=True)) / EPS).exp()
    u_pn = torch.ones_like(mass_pn)
    for _ in range(FIXED_ITERATIONS):
        v_pm = mass_pm / (kernel_pnm * u_pn.unsqueeze(2)).sum(1)
        u_pn = mass_pn / (kernel_pnm * v_pm.unsqueeze(1)).sum(2)
    plan_pnm = u_pn.unsqueeze(2) * kernel_pnm * v_pm.unsqueeze(1)
    return (plan_pnm * cosine_pnm).sum((1, 2))


def compiled(lists: Lists, what: str, compiler: str) -> Callable[[int], Tensor]:
    """Pairs by torch.compile, their cells gathered before the clock starts: `match` as it is, whose
    loop breaks the graph where it asks whether to stop, or `fixed_similarity`."""
    x, (i_p, j_p) = lists.task.x, lists.positions(0, lists.pairs)
    a, b = x[i_p], x[j_p]
    if what == "match":
        program = torch.compile(match_unchecked, backend=compiler)
        return lambda _: program(a, b, MatchOptions(eps=EPS, tol=TOL)).similarity_b
    program = torch.compile(fixed_similarity, backend=compiler, fullgraph=True)
    return lambda _: program(a.local_bcn, b.local_bcn, a.global_bc, b.global_bc)


# rows of the record


def check(lists: Lists, queries: int) -> dict:
    "Largest differences from `match` on some queries; nothing is asserted, the table says it."
    return against_match(lists.task, sample(lists.task, queries), lists.searched).found | dict(
        queries=queries, pairs=len(lists.positions()[0])
    )


def measure(lists: Lists, rounds: int) -> dict:
    "Nanoseconds a pair (median, first and last decile) of this library, `match` and MaxSim."
    pairs = len(lists.positions()[0])
    works = {
        "ours": (lambda _: by_library(lists), pairs),
        "MaxSim": (lambda _: by_maxsim(lists), pairs),
        "MaxSim in one kernel": (lambda _: by_fused_maxsim(lists), pairs),
        "match, a query a call": (
            lambda turn: by_match_alone(lists, turn),
            lists.slow * lists.task.top_k,
        ),
        "match, many pairs a call": (lambda turn: by_match_at_once(lists, turn), lists.pairs),
    }
    return _nanoseconds(works, rounds)


def measure_pot(lists: Lists, rounds: int) -> dict:
    "The same of POT, and how far its similarities are from those of this library."
    solve = pot_solver(lists)
    expected_p = by_library(lists)[: lists.pairs]
    gap = (solve(0) - expected_p).abs().max().item()
    return _nanoseconds({"POT, given the cosines": (solve, lists.pairs)}, rounds) | dict(gap=gap)


def measure_compiled(lists: Lists, rounds: int, what: str, compiler: str) -> dict:
    "The same of torch.compile; the first call, which compiles, is not among the times."
    program = compiled(lists, what, compiler)
    expected_p = by_library(lists)[: lists.pairs]
    seconds_to_compile = seconds(program, 0)
    gap = (program(0) - expected_p).abs().max().item()
    name = "match" if what == "match" else f"a version of {FIXED_ITERATIONS} iterations"
    found = _nanoseconds({f"torch.compile of {name}": (program, lists.pairs)}, rounds)
    return found | dict(gap=gap, compiler=compiler, seconds_to_compile=seconds_to_compile)


def _nanoseconds(works: dict[str, tuple[Callable, int]], rounds: int) -> dict:
    "Interleaved, for works and how many pairs each scores; one that fails is left out, with why."
    able, unable = {}, {}
    for name, (work, _) in works.items():
        try:
            work(0)
            able[name] = work
        except (RuntimeError, ValueError, TypeError, ImportError) as error:
            unable[name] = f"{type(error).__name__}: {error}"[:400]
    took = interleaved(able, rounds)
    ns = {name: [1e9 * t / works[name][1] for t in times] for name, times in took.items()}
    found: dict = dict(ns={name: spread(x) for name, x in ns.items()}, unable=unable)
    if "MaxSim in one kernel" in ns and "ours" in ns:
        found["over_maxsim"] = statistics.median(
            a - b for a, b in zip(ns["ours"], ns["MaxSim in one kernel"], strict=True)
        )
    return found


def memory(lists: Lists) -> dict:
    "Megabytes beyond the features that scoring all lists takes at its peak."
    lists.positions()
    works = {"ours": by_library, "MaxSim": by_maxsim}
    return {name: peak_mb(partial(work, lists), lists.device) for name, work in works.items()}
