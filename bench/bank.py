"""Does a store of a million images answer from disk within 2 GB of memory, and how good is an
approximate shortlist?

`python -m bench.bank build|answer|ivf --folder F` prints one line of JSON; each runs in a process
of its own, so that its memory can be measured. Queries are noisy copies of some images, so that the
right answer is known.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from bench.measure import fresh, option_words, peak_mb, seconds, threads
from bench.synthetic import Synthetic
from diml_nb.features.grid import Features, grid_features
from diml_nb.features.store import FeatureStore, open_store, write_store
from diml_nb.retrieval.metrics import Ranking
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search

TOP_K, LIMIT_MB, BYTES, NOISE = 100, 2000, 2**28, 2.0
PROBES, NEAREST = (8, 32, 128), 100


def needed_bytes(images: int, grid: int, channels: int) -> int:
    "Disk that a bank takes: cells in float16, their lengths and the global vectors in float32."
    cells = grid**2
    return images * (2 * cells * channels + 4 * cells + 4 * channels)


def check_disk(folder: Path, images: int, grid: int, channels: int) -> None:
    "`OSError` that says how much is missing unless a bank fits, with a tenth to spare."
    needed, free = 1.1 * needed_bytes(images, grid, channels), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"a bank of {images} images needs {needed / 1e9:.1f} GB, its folder has"
            f" {free / 1e9:.1f} GB free; name a folder on another disk by --folder"
        )


def build(folder: Path, made: Synthetic, queries: int) -> dict:
    "Write the bank, and beside it noisy copies of some images to ask for."
    check_disk(folder, made.images, made.grid, made.channels)
    start = time.perf_counter()
    write_store(folder / "bank", made.features, made.images, identity=repr(made))
    found = dict(
        seconds=time.perf_counter() - start,
        gb=sum(p.stat().st_size for p in (folder / "bank").rglob("*") if p.is_file()) / 1e9,
    )
    write_store(
        folder / "queries",
        lambda start, stop: copies(made, asked(made.images, queries)[start:stop]),
        queries,
        precision="float32",
        identity=repr(made),
    )
    return found


def asked(images: int, queries: int) -> torch.Tensor:
    "The images that are asked for."
    return (
        torch.randperm(images, generator=torch.Generator().manual_seed(1))[:queries].sort().values
    )


def copies(made: Synthetic, image_q: torch.Tensor) -> Features:
    "These images with noise, which is the same at every call."
    noise_qchw = torch.stack(
        [
            torch.randn(
                made.channels, made.grid, made.grid, generator=torch.Generator().manual_seed(2 + i)
            )
            for i in image_q.tolist()
        ]
    )
    return grid_features(
        torch.cat([made.maps(i, i + 1) for i in image_q.tolist()])
        + NOISE * made.scale_c11 * noise_qchw,
        grid=made.grid,
    )


def opened(folder: Path) -> tuple[Features, torch.Tensor, FeatureStore]:
    "The queries, the images they were made from, and the bank."
    bank, queries = open_store(folder / "bank"), open_store(folder / "queries")
    return queries[:], asked(len(bank), len(queries)), bank


def answer(folder: Path) -> dict:
    "Rank the bank for all queries and re-rank, with the memory of the whole process at its peak."
    result: dict = {}
    memory = peak_mb(lambda: result.update(_search_and_rerank(folder)))
    below = memory["peak_mb"] and memory["peak_mb"] < LIMIT_MB
    return result | memory | dict(below_limit=below, limit_mb=LIMIT_MB)


def _search_and_rerank(folder: Path) -> dict:
    "Seconds of both, and how often the image that a query was made from comes first."
    q, original_q, bank = opened(folder)
    start = time.perf_counter()
    ranking = search(q, bank, top_k=TOP_K, max_bytes=BYTES)
    searched = time.perf_counter()
    reranked = rerank(ranking, q, bank, top_k=TOP_K, max_bytes=BYTES)
    ended = time.perf_counter()
    return dict(
        seconds_search=searched - start,
        seconds_rerank=ended - searched,
        seconds=ended - start,
        queries=len(q),
        original_first_search=_share_first(ranking, original_q),
        original_first=_share_first(reranked, original_q),
    )


def _share_first(ranking: Ranking, original_q: torch.Tensor) -> float:
    return (ranking.index_qk[:, 0] == original_q).double().mean().item()


def ivf(folder: Path, rounds: int, seed: int = 0) -> dict:
    """An inverted file of faiss instead of the whole score product: share of the exact shortlist
    that it finds, and milliseconds a query."""
    try:
        import faiss
    except ImportError as error:
        return dict(unable=f"not measured: {error}")
    q, _, bank = opened(folder)
    faiss.omp_set_num_threads(torch.get_num_threads())
    exact_qk = search(q, bank, top_k=NEAREST, max_bytes=BYTES).index_qk
    lists = min(round(4 * len(bank) ** 0.5), len(bank) // 40)
    quantizer = faiss.IndexFlatIP(q.global_bc.shape[1])
    index = faiss.IndexIVFFlat(quantizer, q.global_bc.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    blocks = range(0, len(bank), 65536)
    index.cp.seed = seed

    def read(rows):
        return np.ascontiguousarray(bank.global_bc[rows])

    sample = np.sort(np.random.default_rng(seed).permutation(len(bank))[: 64 * lists])
    trained = seconds(lambda: index.train(read(sample)))
    added = seconds(lambda: [index.add(read(slice(start, start + 65536))) for start in blocks])
    vectors = q.global_bc.numpy()
    found = dict(faiss=faiss.__version__, lists=lists, seconds_train=trained, seconds_add=added)
    took_exact = [
        seconds(lambda: search(q, bank, top_k=NEAREST, max_bytes=BYTES)) for _ in range(rounds)
    ]
    found["exact_ms"] = 1e3 * statistics.median(took_exact) / len(q)
    for index.nprobe in PROBES:
        if index.nprobe > lists:
            break
        took = [seconds(index.search, vectors, NEAREST) for _ in range(rounds + 1)][1:]
        near_qk = torch.from_numpy(index.search(vectors, NEAREST)[1])
        there_qk = (near_qk.unsqueeze(2) == exact_qk.unsqueeze(1)).any(1).double()
        found[f"nprobe_{index.nprobe}"] = dict(
            recall=there_qk.mean().item(),
            recall_10=there_qk[:, :10].mean().item(),
            ms=1e3 * statistics.median(took) / len(q),
        )
    return found


def measure(
    folder: Path,
    images: int,
    grid: int,
    channels: int,
    per_class: int,
    queries: int,
    rounds: int,
    count: int,
) -> dict:
    "Build, answer and approximate, each in a fresh process."
    check_disk(folder, images, grid, channels)
    words = option_words(
        folder=folder,
        images=images,
        grid=grid,
        channels=channels,
        per_class=per_class,
        queries=queries,
        rounds=rounds,
        threads=count,
    )
    return {what: fresh("bench.bank", what, *words) for what in ("build", "answer", "ivf")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("build", "answer", "ivf"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--grid", type=int, default=4, help="cells a side")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    made = Synthetic(given.images, given.grid, given.channels, given.per_class)
    given.folder.mkdir(parents=True, exist_ok=True)
    with threads(given.threads):
        work = dict(
            build=lambda: build(given.folder, made, given.queries),
            answer=lambda: answer(given.folder),
            ivf=lambda: ivf(given.folder, given.rounds),
        )
        print(json.dumps(work[given.what]()))
