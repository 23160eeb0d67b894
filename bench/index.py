"""What does one query of an index cost, beside its share of a batch and beside the official loop?

`python -m bench.index` measures galleries of 6,000, 60,502 and a million images with one thread (at
most 8 minutes) and prints a table and which goals are reached. `--preset quick` does the same with
6,000 images. `--record` keeps a full record in data/results/bench_index, where git keeps it.

Before anything is timed, the lists of the index are compared with those of `search` and `rerank`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.bank import check_disk
from bench.evaluation import official_query
from bench.measure import fresh, others, ratio, seconds, spread, threads
from bench.synthetic import Synthetic
from diml_nb._internal.paths import data_dir
from diml_nb.experiments.runner import ExperimentRun, remove_older, run_folder
from diml_nb.features.grid import Features
from diml_nb.features.store import open_store, write_store
from diml_nb.matcher.index import Index
from diml_nb.records.provenance import source_of
from diml_nb.records.record import Record, save_record
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search

NAME = "bench_index"
GRID, CHANNELS, TOP_K = 4, 128, 100
COUNTS = (1, 16, 512)  # queries at a time
SINGLES, SLOW = 16, 4  # single queries, and queries of the official loop, in each round
MOST_BYTES = 4e9  # of features in memory: a gallery that needs more stays on the disk
# at the set that has `goals`: one query against its share of the largest batch and against the
# official loop, and seconds from a saved index to its first answer
GOALS = dict(batch=2.0, official=0.1, first=1.0)

PRESETS: dict[str, dict] = {
    "full": dict(
        sets=[
            dict(images=6000, per_class=60, rounds=15, goals=False),
            dict(images=60502, per_class=5, rounds=15, goals=True),
            dict(images=1_000_000, per_class=100, rounds=4, goals=False),
        ],
        checked=32,
    ),
    "quick": dict(sets=[dict(images=6000, per_class=60, rounds=2, goals=True)], checked=16),
}


# what is measured


@dataclass
class Gallery:
    "A synthetic gallery in memory or on a disk, as the official loop expects it, and its index."

    made: Synthetic
    x: Features
    where: str
    top_k: int = TOP_K

    @cached_property
    def label_n(self) -> Tensor:
        return self.made.label_n

    @cached_property
    def position_q(self) -> Tensor:
        "The images that are asked for."
        return torch.arange(COUNTS[-1]) * self.made.images // COUNTS[-1]

    @cached_property
    def q(self) -> Features:
        "Their features, in memory."
        return self.x[self.position_q]

    @cached_property
    def index(self) -> Index:
        return Index.from_features(self.x)


def feature_bytes(images: int) -> int:
    "Of the float32 features of so many images."
    return 4 * images * (CHANNELS * GRID**2 + GRID**2 + CHANNELS)


def gallery(images: int, per_class: int, folder: Path) -> Gallery:
    "In memory; beyond `MOST_BYTES` in a feature store (float16) in a folder, made block by block."
    made = Synthetic(images, GRID, CHANNELS, per_class)
    if feature_bytes(images) <= MOST_BYTES:
        return Gallery(made, made.all(), "memory")
    check_disk(folder, images, GRID, CHANNELS)
    store = write_store(folder / f"{images}", made.features, images, identity=repr(made))
    return Gallery(made, open_store(store), "disk")


def check(task: Gallery, queries: int) -> dict:
    """Are the lists of the index those of `search` and `rerank`, for queries alone and together?
    `AssertionError` if not."""
    rows = torch.arange(queries) * COUNTS[-1] // queries
    q = task.q[rows]
    expected = rerank(search(q, task.x, top_k=TOP_K), q, task.x, top_k=TOP_K)
    alone = [task.index.search(q[n], TOP_K)[0] for n in range(queries)]
    batch = task.index.search(task.q, TOP_K)
    found: dict = dict(queries=queries)
    for name, lists in (("alone", alone), ("batch", [batch[n] for n in rows.tolist()])):
        position_qk = torch.stack([hits.position_k for hits in lists])
        score_qk = torch.stack([hits.score_k for hits in lists])
        assert torch.equal(position_qk, expected.index_qk), (name, task.made)
        found[name] = (score_qk - expected.score_qk).abs().max().item()
        assert found[name] <= 1e-6, (name, found)
    return found


class Work(NamedTuple):
    "Something that is timed: a call for each of some parts."

    call: Callable[[Any], object]
    parts: list  # what is asked, in turn
    queries: int  # in each part
    calls: int = 1  # in each round


def works(task: Gallery) -> dict[str, Work]:
    "The official loop, and index and faiss with each number of queries at a time."
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(CHANNELS)
    for start in range(0, len(task.x), 65536):
        flat.add(task.x.global_bc[start : start + 65536].numpy())
    asked = task.position_q.tolist()
    found = {"official": Work(lambda i: official_query(task, i), asked, 1, SLOW)}
    for count in COUNTS:
        parts = [task.q[n : n + count] for n in range(0, COUNTS[-1], count)]
        vectors = [part.global_bc.numpy() for part in parts]
        size = count, SINGLES if count == 1 else 1
        found[f"index {count}"] = Work(lambda q: task.index.search(q, TOP_K), parts, *size)
        found[f"faiss {count}"] = Work(lambda q: flat.search(q, TOP_K), vectors, *size)
    return found


def milliseconds(work: Work, turn: int) -> float:
    "A query's share of a call, the median of the calls of one round; other parts at each turn."
    places = [(turn * work.calls + n) % len(work.parts) for n in range(work.calls)]
    took = [seconds(work.call, work.parts[place]) for place in places]
    return 1e3 * statistics.median(took) / work.queries


def measure(task: Gallery, rounds: int) -> dict:
    "Milliseconds a query (median, first and last decile), and ratios of what one round measured."
    timed = works(task)
    ms: dict[str, list[float]] = {name: [] for name in timed}
    with others() as busy:
        # every round runs all, so that a slow minute of the machine hits all; round 0 warms up
        for turn in range(rounds + 1):
            for name, work in timed.items():
                took = milliseconds(work, turn)
                if turn:
                    ms[name].append(took)
    one = ms["index 1"]
    return busy | dict(
        where=task.where,
        ms={name: spread(x) for name, x in ms.items()},
        batch=ratio(one, ms[f"index {COUNTS[-1]}"]),
        official=ratio(one, ms["official"]),
        codes_mb=task.index._segments[0].codes.code_nc.nbytes / 1e6,
        vectors_mb=4e-6 * len(task.x) * CHANNELS,
    )


def first_answers(task: Gallery, folder: Path, rounds: int = 3) -> dict:
    "Save the index, and ask it in new processes: seconds without imports, of the middle one."
    names = [f"image-{n}.jpg" for n in range(len(task.x))]
    saved = Index.from_features(task.x, ids=names).save(folder / "index", precision="float16")
    runs = [fresh("bench.index", "--first", saved) for _ in range(rounds)]
    return sorted(runs, key=lambda run: run["first"])[rounds // 2]


def first_answer(folder: Path) -> dict:
    "Seconds to open an index, of its first answer, in which codes are made, and of the second."
    start = time.perf_counter()
    index = Index.load(folder, check_files=False)  # the images are no files
    loaded = time.perf_counter() - start
    q, other = index.features_at(0), index.features_at(1)
    searched, second = seconds(index.search, q), seconds(index.search, other)
    return dict(load=loaded, search=searched, first=loaded + searched, second=second)


def measure_set(run: ExperimentRun, setting: dict, checked: int, folder: Path) -> None:
    "The rows of one gallery."
    sizes = dict(images=setting["images"], per_class=setting["per_class"])

    @lru_cache  # made only for a row that is missing
    def task() -> Gallery:
        return gallery(**sizes, folder=folder)

    run.row(dict(part="check") | sizes, lambda: check(task(), checked), kind="computed")
    rounds = setting["rounds"]
    run.row(dict(part="times") | sizes, lambda: measure(task(), rounds), kind="timed")
    if setting["goals"]:
        run.row(dict(part="first") | sizes, lambda: first_answers(task(), folder), kind="timed")


# what is said of it


def result(record: Record, part: str, images: int) -> dict:
    "The result of one row; `KeyError` where it is missing."
    for row in record.rows:
        if (row["config"]["part"], row["config"]["images"]) == (part, images):
            return row["result"]
    raise KeyError(f"no row {part} of {images} images")


def goals(record: Record) -> list[tuple[str, float, float]]:
    "What was to be reached: in words, as measured, and the limit."
    found = []
    for setting in record.config["sets"]:
        if setting["goals"]:
            images = setting["images"]
            times, first = result(record, "times", images), result(record, "first", images)
            at = f"at {images:,} images"
            found += [
                (f"one query / one of {COUNTS[-1]}, {at}", times["batch"][0], GOALS["batch"]),
                (f"one query / official loop, {at}", times["official"][0], GOALS["official"]),
                (f"seconds to the first answer from disk, {at}", first["first"], GOALS["first"]),
            ]
    return found


def markdown(record: Record) -> str:
    "Tables of a finished record: milliseconds a query, and the goals."
    columns = ["official", *(f"{x} {n}" for x in ("index", "faiss") for n in COUNTS)]
    header = ["ms a query; queries at a time", "cells in", "official loop, 1", *columns[1:]]
    lines = [header, ["---"] * len(header)]
    for setting in record.config["sets"]:
        times = result(record, "times", setting["images"])
        ms = [f"{times['ms'][name][0]:.3g}" for name in columns]
        lines.append([f"{setting['images']:,} images", times["where"], *ms])
    rows = [["goal", "measured", "limit", ""], ["---"] * 4]
    for name, value, limit in goals(record):
        reached = "reached" if value <= limit else "not reached"
        rows.append([name, f"{value:.3g}", f"{limit:g}", reached])
    tables = ["\n".join(f"| {' | '.join(line)} |" for line in table) for table in (lines, rows)]
    return "\n\n".join([*tables, footnote(record)])


def footnote(record: Record) -> str:
    "What else a reader must know: the check, memory, the machine, and its other work."
    sets = [setting["images"] for setting in record.config["sets"]]
    times = [result(record, "times", images) for images in sets]
    busy = max(x.get("others", 0.0) for x in times)
    share = times[-1]["codes_mb"] / times[-1]["vectors_mb"]
    queries = sum(result(record, "check", images)["queries"] for images in sets)
    commit = record.environment["commit"] or "no commit"
    return (
        f"({queries} lists were compared with `search` and `rerank` first: the same. faiss:"
        f" IndexFlatIP, without matching. Codes take {share:.0%} of the bytes of the global"
        f" vectors. {record.environment['processor']}, {record.environment['system']}, 1 thread;"
        f" other processes took up to {busy:.0%} of it. Commit {commit[:8]}{commit[40:]}, record"
        f" `{record.hash}`)"
    )


# where it goes


def own_source() -> dict[str, str]:
    "Fingerprints of this program and of all that it reaches."
    names = ("index", "bank", "evaluation", "measure", "synthetic")
    paths = [Path(__file__).with_name(f"{name}.py") for name in names]
    return source_of([path.read_text(encoding="utf-8") for path in paths])


def keep(record: Record, results: Path, *, dirty: bool = False) -> Path:
    """Copy a finished full record to the folder of records, in place of an older one.

    `ValueError` without `dirty` for one that no commit can repeat, and for another preset."""
    commit = record.environment["commit"]
    if record.config["preset"] != "full":
        raise ValueError("--record: only preset full is kept")
    if not dirty and (not commit or "with changes" in commit):
        raise ValueError(
            f"--record: it was made by code that no commit holds ({commit or 'no git'}); commit,"
            " and run it again (or --dirty)"
        )
    path = save_record(record, results / record.experiment / f"{record.hash}.json")
    remove_older(path, record)
    return path


def parser_of() -> argparse.ArgumentParser:
    "The options of the command line."
    parser = argparse.ArgumentParser(
        prog="bench.index",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--out", help="folder of the record; default: data/runs/PRESET")
    parser.add_argument(
        "--folder", help="where galleries lie on the disk for a while (5 GB); default: temporary"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the rows of an earlier run")
    parser.add_argument("--record", action="store_true", help="keep the record in data/results")
    parser.add_argument("--dirty", action="store_true", help="also of code that is not committed")
    parser.add_argument("--first", type=Path, help=argparse.SUPPRESS)  # in a new process
    return parser


def measure_all(given: argparse.Namespace) -> Record:
    "Measure what is missing, and finish the record."
    preset = PRESETS[given.preset]
    folder = run_folder(given.preset, given.out)
    run = ExperimentRun(
        NAME,
        dict(preset=given.preset, device="cpu", threads=1, seed=0) | preset,
        {},
        version=1,
        source=own_source(),
        results=folder / "results",
        figures=folder / "figures",
        fresh=given.fresh,
    )
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="diml-bench-") as temporary:
        for setting in preset["sets"]:
            measure_set(run, setting, preset["checked"], Path(temporary))
    print(os.path.relpath(run.finish()))
    return run.record


def main() -> None:
    parser = parser_of()
    given = parser.parse_args()
    with threads(1):
        if given.first:
            print(json.dumps(first_answer(given.first)))
            return
        record = measure_all(given)
    print(markdown(record))
    if given.record:
        try:
            print(os.path.relpath(keep(record, data_dir() / "results", dirty=given.dirty)))
        except ValueError as error:
            parser.exit(2, f"bench.index: {error}\n")


if __name__ == "__main__":
    main()
