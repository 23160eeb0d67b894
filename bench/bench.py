"""How fast is the library, against whom, and what is left to the limit of the machine? Writes a record and a figure.

`python bench/bench.py` measures everything (a quarter of an hour on two cores).
`python bench/bench.py --preset smoke` runs the same code at tiny sizes in under a minute.
Each row is kept as soon as it is measured, and a killed run goes on; `--fresh` starts again.
Record and figure are written under data/runs/PRESET (on a GPU: data/runs/PRESET/cuda).
`python bench/bench.py --publish` copies them to data/results/bench and figures, where git keeps them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import bank  # noqa: E402
import evaluation  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import step  # noqa: E402
import torch  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from measure import fresh, present_device, quietest, roofline, threads  # noqa: E402

from diml_nb._internal.paths import REPO_ROOT, check_writable, data_dir  # noqa: E402
from diml_nb.experiments.runner import (
    MACHINERY,
    ExperimentRun,
    find_records,
    run_folder,
)  # noqa: E402
from diml_nb.records.provenance import fingerprint, processor, source_of, what_changed
from diml_nb.records.record import Record, save_record  # noqa: E402
from diml_nb.viz.figures import save_figure  # noqa: E402

PRESETS = {
    "full": dict(
        tries=4,
        evaluation=dict(
            sets=[
                dict(grid=4, images=6000, per_class=60, goal=10),
                dict(grid=7, images=6000, per_class=60, goal=6),
                dict(grid=4, images=60502, per_class=5, goal=15),
            ],
            block=2048,
            slow=24,
            rounds=15,
        ),
        training=dict(
            steps=[
                dict(loss="multi_similarity", grid=4, goal=30),
                dict(loss="multi_similarity", grid=7, goal=12),
                dict(loss="margin", grid=4, goal=30),
            ],
            images=112,
            channels=128,
            rounds=5,
        ),
        bank=dict(images=1_000_000, grid=4, channels=128, per_class=100, queries=100, rounds=5),
    ),
    "smoke": dict(
        tries=1,
        evaluation=dict(
            sets=[
                dict(grid=4, images=200, per_class=20, goal=None),
                dict(grid=7, images=120, per_class=5, goal=None),
            ],
            block=64,
            slow=2,
            rounds=2,
        ),
        training=dict(
            steps=[
                dict(loss="multi_similarity", grid=4, goal=None),
                dict(loss="margin", grid=4, goal=None),
            ],
            images=16,
            channels=32,
            rounds=1,
        ),
        bank=dict(images=5000, grid=4, channels=128, per_class=50, queries=20, rounds=2),
    ),
}
PARTS = ("evaluation", "training", "bank")
FIGURE = "bench.png"
SHORT = {"multi_similarity": "Multi-Similarity", "margin": "Margin"}


# which code is measured

# how a record is made, kept and shown
KEEPING = (*MACHINERY, "viz.figures.", "_internal.paths.atomic_write")


def is_measured(path: Path) -> bool:
    "Does this file of the folder belong to the benchmark? The explorers have one of their own."
    return path.suffix == ".py" and path.name != "explorer.py"


def measured(source: dict[str, str]) -> dict[str, str]:
    "Of the source that the benchmark reaches, what decides about speed and memory."
    return {name: value for name, value in source.items() if not name.startswith(KEEPING)}


def source_here() -> dict[str, str]:
    "Fingerprints of this folder and of every definition of the library that it reaches."
    paths = [path for path in sorted(Path(__file__).parent.iterdir()) if is_measured(path)]
    return measured(source_of([path.read_text(encoding="utf-8") for path in paths]))


def code_at(commit: str) -> list[str]:
    "The files of this folder as a commit holds them; `ValueError` if there is no such commit here."

    def git(*words: str) -> str:
        command = ["git", "-C", str(REPO_ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            raise ValueError(f"no commit {commit[:8]} here: {done.stderr.strip()}")
        return done.stdout

    names = git("ls-tree", "--name-only", commit, "bench/").splitlines()
    return [git("show", f"{commit}:{name}") for name in sorted(names) if is_measured(Path(name))]


# what is measured


def timed(run: ExperimentRun, config: dict, measure: Callable[[], dict]) -> dict:
    """A row of times with so many threads as `config` says; again when other processes disturbed
    it, as often as the preset says."""
    with threads(config["threads"]):
        tries = run.record.config["tries"]
        return run.row(config, lambda: quietest(measure, tries), kind="timed")


def measure_machine(run: ExperimentRun, device: str, count: int) -> dict:
    return timed(
        run,
        dict(part="machine", threads=count),
        lambda: dict(processor=processor(device)) | roofline(device=device),
    )


def memory_of(script: str, options: tuple) -> dict:
    "Peak memory of the official algorithm and of this library, each in a fresh process."
    return {which: fresh(script, *options, "--peak", which) for which in ("official", "ours")}


def measure_evaluation(
    run: ExperimentRun,
    device: str,
    counts: list[int],
    *,
    sets: list[dict],
    block: int,
    slow: int,
    rounds: int,
) -> None:
    for setting in sets:
        images, grid, per_class = (setting[name] for name in ("images", "grid", "per_class"))
        task = lru_cache(
            lambda: evaluation.Task(images, grid, per_class, block, device)
        )  # made only for a row that is missing
        where = dict(part="evaluation") | setting
        run.row(where | dict(checked=slow), lambda: evaluation.check(task(), slow), kind="computed")
        for count in counts:
            machine = measure_machine(run, device, count)
            timed(
                run,
                where | dict(threads=count),
                lambda: evaluation.measure(task(), rounds, slow, machine),
            )
        options = (
            "--grid",
            grid,
            "--images",
            images,
            "--per-class",
            per_class,
            "--block",
            block,
            "--device",
            device,
        )
        memory = partial(memory_of, "evaluation.py", options)
        run.row(where | dict(memory=True), memory, kind="timed")


def measure_training(
    run: ExperimentRun,
    device: str,
    counts: list[int],
    *,
    steps: list[dict],
    images: int,
    channels: int,
    rounds: int,
) -> None:
    for setting in steps:
        loss, grid = setting["loss"], setting["grid"]
        data = lru_cache(lambda: step.batch(grid, images, channels, device))
        where = dict(part="training") | setting
        run.row(where | dict(checked=True), lambda: step.check(loss, grid, data()), kind="computed")
        for count in counts:
            timed(
                run, where | dict(threads=count), lambda: step.measure(loss, grid, data(), rounds)
            )
        options = (
            "--loss",
            loss,
            "--grid",
            grid,
            "--images",
            images,
            "--channels",
            channels,
            "--device",
            device,
        )
        run.row(where | dict(memory=True), partial(memory_of, "step.py", options), kind="timed")


def measure_bank(run: ExperimentRun, folder: str | None, count: int, setting: dict) -> None:
    def compute() -> dict:
        with tempfile.TemporaryDirectory(dir=folder, prefix="diml-bench-") as place:
            return bank.measure(Path(place), **setting, count=count)

    run.row(dict(part="bank", threads=count) | setting, compute, kind="timed")


# what comes out


def rows_of(record: Record, part: str, *keys: str) -> list[tuple[dict, dict]]:
    "Configurations and results of one kind of row."
    return [
        (row["config"], row["result"])
        for row in record.rows
        if row["config"]["part"] == part and set(keys) <= set(row["config"])
    ]


def like(record: Record, config: dict, key: str) -> dict:
    """The row of another kind for the same setting: `checked` or `memory`; {} where it is not
    measured yet."""

    def of(x):
        return {k: v for k, v in x.items() if k not in ("threads", "checked", "memory")}

    return next(
        (
            result
            for other, result in rows_of(record, config["part"], key)
            if of(other) == of(config)
        ),
        {},
    )


def title(config: dict) -> str:
    "A row's setting in words."
    cells = f"{config['grid']} x {config['grid']} cells"
    return (
        f"{SHORT[config['loss']]}, {cells}"
        if "loss" in config
        else f"{config['images']:,} images, {cells}"
    )


def _table(lines: list[list]) -> str:
    head, *body = [[str(x) for x in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def _times(ratio: list[float]) -> str:
    return "x{:.1f} ({:.1f} to {:.1f})".format(*ratio)


def _ms(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _memory(memory: dict) -> str:
    values = [memory.get(which, {}).get("extra_mb") for which in ("official", "ours")]
    return "not measured" if None in values else "{:,.0f} / {:,.0f}".format(*values)


def checked(record: Record) -> str:
    "How far the results were from the rivals' before anything was timed, at worst."
    found = {
        part: [x for _, x in rows_of(record, part, "checked")]
        for part in ("evaluation", "training")
    }

    def worst(part, name):
        return max(x[name] for x in found[part])

    said = []
    if x := found["evaluation"]:
        said.append(
            f"similarities are within {worst('evaluation', 'similarity'):.0e} of `match`; by the"
            f" official rules {sum(y['equal_lists_official'] for y in x)} of"
            f" {sum(y['queries'] for y in x)} lists, and their metrics, equal the loop's, the"
            f" others but for ties within {worst('evaluation', 'lists_official'):.0e}"
        )
    if found["training"]:
        said.append(
            f"losses are within {worst('training', 'loss'):.0e}, gradients within"
            f" {worst('training', 'gradient'):.0e} of their norm"
        )
    return f"(Checked before the times: {'; '.join(said)}.)" if said else ""


SHOWN = 6  # names of definitions that have changed


def older_code(record: Record) -> str:
    """Which code has changed since a record was made, in a sentence; empty if none has, or if that
    is not known."""
    then = measured(record.provenance.get("source", {}))
    changed = what_changed(then, source_here()) if then else []
    if not changed:
        return ""
    names = ["bench/*.py" if name == "cells" else name for name in changed]
    listed = ", ".join(f"`{name}`" for name in names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    count = (
        "1 definition that it reaches has"
        if len(names) == 1
        else f"{len(names)} definitions that it reaches have"
    )
    commit = record.environment["commit"]
    at = commit[:8] + commit[40:] if commit else "an unknown commit"
    return f"(measured at commit {at}; since then {count} changed: {listed})"


def markdown(record: Record) -> str:
    "The tables of a record: a query, a training step, the bank, each where it was measured."
    parts = []
    if found := rows_of(record, "evaluation", "threads"):
        lines = [
            [
                "a query",
                "threads",
                "official loop, ms",
                "ours, ms",
                "faster (deciles)",
                "with POT / `match` instead",
                "search / re-rank / metrics, ms",
                "of the roofline",
                "extra MB, official / ours",
            ]
        ]
        for config, x in found:
            lines.append(
                [
                    title(config),
                    config["threads"],
                    _ms(x["ms"]["official"][0]),
                    _ms(x["ms"]["ours"][0]),
                    _times(x["ratio"]["ours"]),
                    " / ".join(
                        f"x{x['ratio'][name][0]:.1f}" if name in x["ratio"] else x["unable"][name]
                        for name in ("POT", "match")
                    ),
                    " / ".join(_ms(x["ms"][name][0]) for name in ("search", "rerank", "metrics")),
                    f"{x['share_of_roofline']:.0%}",
                    _memory(like(record, config, "memory")),
                ]
            )
        parts.append(_table(lines))
    if found := rows_of(record, "training", "threads"):
        lines = [
            [
                "a training step",
                "threads",
                "official loop, ms",
                "ours, ms",
                "faster (deciles)",
                "extra MB, official / ours",
            ]
        ]
        for config, x in found:
            lines.append(
                [
                    title(config),
                    config["threads"],
                    *(_ms(x["ms"][name][0]) for name in ("official", "ours")),
                    _times(x["ratio"]["ours"]),
                    _memory(like(record, config, "memory")),
                ]
            )
        parts.append(_table(lines))
    for config, x in rows_of(record, "bank"):
        built, answered, near = x["build"], x["answer"], x["ivf"]
        peak = "not measured" if answered["peak_mb"] is None else f"{answered['peak_mb']:,.0f} MB"
        lines = [
            ["a bank on disk", "result"],
            [f"{title(config)}, {built['gb']:.1f} GB, written in", f"{built['seconds']:.0f} s"],
            [
                f"{answered['queries']} queries, searched and re-ranked in",
                f"{answered['seconds']:.1f} s",
            ],
            ["peak memory of the whole process", peak],
            [
                "original first: cosine, re-ranked",
                f"{answered['original_first_search']:.0%}, {answered['original_first']:.0%}",
            ],
        ]
        if "unable" in near:
            lines.append(["approximate shortlist (faiss)", near["unable"]])
        else:
            lines.append(["exact shortlist, a query", f"{near['exact_ms']:.2f} ms"])
        lines += [
            [
                (
                    f"faiss {near['faiss']}, {near['lists']} lists, {name.split('_')[1]} probed:"
                    f" share of the exact first 10 and {bank.NEAREST}, a query"
                ),
                f"{y['recall_10']:.1%}, {y['recall']:.1%}, {y['ms']:.2f} ms",
            ]
            for name, y in near.items()
            if name.startswith("nprobe")
        ]
        parts.append(_table(lines))
    if said := checked(record):
        parts.append(said)
    noise = [
        x["others"]
        for part in ("machine", *PARTS)
        for _, x in rows_of(record, part, "threads")
        if "others" in x
    ]
    if noise and max(noise) > 0.05:
        parts.append(
            f"(other processes took up to {max(noise):.0%} of the machine meanwhile: the times with"
            " all threads suffer most)"
        )
    if found := rows_of(record, "machine"):
        best = "; ".join(
            f"{config['threads']} thread{'s' * (config['threads'] > 1)}: {x['gflops']:.0f} GFLOP/s,"
            f" {x['gbs']:.0f} GB/s"
            for config, x in found
        )
        name = found[0][1].get("processor") or record.environment.get("processor", "unknown")
        system = record.environment["system"].rsplit(", ", 1)[0]
        path = f"data/results/bench/{record.hash}.json"
        parts.append(f"({name}, {system}; {best}; record `{path}`)")
    if said := older_code(record):
        parts.append(said)
    return "\n\n".join(parts)


COLORS = {"ours": "#0072B2", "POT": "#E69F00", "match": "#777777"}
NAMES = {
    "ours": "this library",
    "POT": "its lists, POT's Sinkhorn a query",
    "match": "its lists, match a query",
}


def figure(record: Record) -> Figure:
    """How many times faster than the slow twin: one group of bars for each setting, pale for all
    threads, dashed lines at the goals."""
    groups = {}
    for part in ("evaluation", "training"):
        for config, x in rows_of(record, part, "threads"):
            groups.setdefault((part, title(config)), []).append((config, x))
    most = max(config["threads"] for group in groups.values() for config, _ in group)
    bars = sum(len(x["ratio"]) for group in groups.values() for _, x in group)
    fig, ax = plt.subplots(figsize=(9, 1.5 + 0.21 * bars + 0.2 * len(groups)), layout="constrained")
    y, ticks, goals = 0.0, [], []
    for (part, name), group in groups.items():
        top = y
        for which, (config, x) in (
            (which, row) for which in COLORS for row in group if which in row[1]["ratio"]
        ):
            value, low, high = x["ratio"][which]
            ax.barh(
                y,
                value - 1,
                left=1,
                height=0.85,
                color=COLORS[which],
                alpha=0.5 if config["threads"] == most > 1 else 1,
                xerr=[[value - low], [high - value]],
                error_kw=dict(lw=1, ecolor="black"),
            )
            share = (
                f", {x['share_of_roofline']:.0%} of the roofline"
                if which == "ours" and "share_of_roofline" in x
                else ""
            )
            ax.text(
                max(high, 1) * 1.06,
                y,
                f"x{value:.{1 + (value < 2)}f}{share}",
                va="center",
                fontsize=8.5,
                zorder=4,
                bbox=dict(facecolor="white", edgecolor="none", pad=1),
            )
            y += 1
        ticks.append(
            (
                (top + y - 1) / 2,
                ("a query\n" if part == "evaluation" else "a training step\n")
                + name.replace(", ", ",\n"),
            )
        )
        if goal := group[0][0].get("goal"):
            goals.append(
                ax.plot(
                    [goal, goal], [top - 0.6, y - 0.4], color="black", lw=1.6, ls=(0, (3, 1.5))
                )[0]
            )
        y += 0.9
    least, widest = (
        f(
            value
            for group in groups.values()
            for _, x in group
            for ratio in x["ratio"].values()
            for value in ratio[1:]
        )
        for f in (min, max)
    )
    ax.set(
        xscale="log",
        xlim=(min(least, 1) / 1.2, max(widest, 2) * 4),
        ylim=(y - 0.4, -0.9),
        xlabel=(
            "times faster than the official algorithm as a loop with as many threads (median of"
            " pairs; whiskers: deciles)"
        ),
    )
    ax.set_yticks([t for t, _ in ticks], [t for _, t in ticks], fontsize=9)
    ax.set_xticks(
        [
            t
            for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
            if min(least, 1) / 1.2 <= t <= widest * 2
        ]
    )
    ax.xaxis.set_major_formatter(lambda x, _: f"x{x:g}")
    ax.minorticks_off()
    ax.axvline(1, color="black", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    handles = (
        [Patch(color=color) for color in COLORS.values()]
        + [Patch(color=COLORS["ours"], alpha=0.5)] * (most > 1)
        + goals[:1]
    )
    labels = (
        [*NAMES.values()] + [f"pale: {most} threads, else 1"] * (most > 1) + ["goal"] * bool(goals)
    )
    fig.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.2,
        handlelength=1.4,
    )
    return fig


def counts_of(text: str) -> list[int]:
    "'1,all' as numbers of threads, each once."
    counts = sorted({torch.get_num_threads() if x == "all" else int(x) for x in text.split(",")})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError(f"expected numbers of at least 1, got {text}")
    return counts


# where it goes


def folder_of(preset: str, device: str, out: str | None) -> Path:
    """Where a run writes: data/runs/PRESET or `out`, on another device than the CPU a folder of its
    name in it."""
    folder = run_folder(preset, out)
    return folder if device == "cpu" else folder / device.replace(":", "-")


def not_committed(record: Record) -> str:
    "Why nobody could measure this record again from its commit; empty if that is possible."
    commit = record.environment["commit"]
    if not commit or "with changes" in commit:
        return f"it was made by code that no commit holds ({commit or 'no git'})"
    try:
        code = fingerprint("\n".join(code_at(commit)))
    except ValueError as error:
        return str(error)
    if record.provenance.get("source", {}).get("cells") != code:
        return f"commit {commit[:8]} holds another benchmark than the one that made it"
    return ""


def publish(
    folder: Path, device: str, results: Path, figures: Path, *, dirty: bool = False
) -> list[Path]:
    """Copy the finished full record of a run, and on the CPU its figure; returns the copies' paths.

    An older record of the same preset and device goes. `ValueError` says why a record is not published:
    without `dirty`, one that no commit can repeat.
    """
    wanted = dict(device=device)
    try:
        record = find_records("bench", "full", results=folder / "results", **wanted)[0]
    except FileNotFoundError as error:
        options = "" if device == "cpu" else f" --device {device}"
        raise ValueError(
            f"no finished full record in {folder / 'results' / 'bench'}: "
            f"`python bench/bench.py{options}` makes one"
        ) from error
    if not dirty and (reason := not_committed(record)):
        raise ValueError(f"record {record.hash}: {reason}; commit, and run it again (or --dirty)")
    picture = folder / "figures" / FIGURE
    if device == "cpu" and not picture.exists():
        raise ValueError(f"the figure of record {record.hash} is not there: {picture}")
    copies = [save_record(record, results / "bench" / f"{record.hash}.json")]
    for old in find_records("bench", "full", results=results, **wanted):
        if old.hash != record.hash:
            (results / "bench" / f"{old.hash}.json").unlink()
    if device == "cpu":
        copies.append(figures / FIGURE)
        shutil.copyfile(picture, copies[-1])
    return copies


def options_of() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    "The options of the command line, checked before anything is measured."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--threads", default="1,all", type=counts_of, help="numbers of threads, e.g. 1,all"
    )
    parser.add_argument(
        "--only",
        default=",".join(PARTS),
        help="some of evaluation,training,bank; the record is finished when all are there",
    )
    parser.add_argument("--fresh", action="store_true", help="forget the rows of an earlier run")
    parser.add_argument("--out", help="folder for record and figure; default: data/runs/PRESET")
    parser.add_argument(
        "--folder",
        help=(
            "where the bank of a million images is written for a while (5 GB); default: the"
            " system's temporary folder"
        ),
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help=(
            "measure nothing: copy the finished full record and its figure to data/results/bench"
            " and figures"
        ),
    )
    parser.add_argument(
        "--dirty",
        action="store_true",
        help="with --publish: also a record of code that differs from its commit",
    )
    given = parser.parse_args()
    given.only = given.only.split(",")
    parser.set_defaults(only=list(PARTS), threads=counts_of("1,all"))
    if unknown := set(given.only) - set(PARTS):
        parser.error(
            f"--only: expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}"
        )
    if given.folder and not Path(given.folder).is_dir():
        parser.error(f"--folder: there is no folder {given.folder}")
    if given.device != "cpu" and given.only == ["bank"]:
        parser.error("--only bank: the bank is measured on the CPU alone, without --device")
    if given.folder and "bank" not in given.only:
        parser.error("--folder: the bank alone is written there, and --only leaves it out")
    idle = [
        name
        for name in ("only", "fresh", "folder", "threads")
        if getattr(given, name) != parser.get_default(name)
    ]
    if given.publish and idle:
        parser.error(f"--{idle[0]}: has no meaning with --publish, which measures nothing")
    try:
        if not given.publish:
            present_device(given.device)
        check_writable(folder_of(given.preset, given.device, given.out))
    except argparse.ArgumentTypeError as error:
        parser.error(f"--device: {error}")
    except OSError as error:
        parser.error(f"--out: {error}")
    if given.publish and given.preset != "full":
        parser.error(f"--publish: only preset full is published, not {given.preset}")
    if given.dirty and not given.publish:
        parser.error("--dirty: has a meaning with --publish only")
    return parser, given


def measure_all(given: argparse.Namespace, folder: Path) -> None:
    """Measure what is asked for and print it; when all parts are there, finish the record and draw
    the figure."""
    preset, parts = PRESETS[given.preset], PARTS if given.device == "cpu" else PARTS[:2]
    config = dict(preset=given.preset, device=given.device, threads=given.threads, seed=0) | preset
    run = ExperimentRun(
        "bench",
        config,
        {},
        version=1,
        source=source_here(),
        results=folder / "results",
        figures=folder / "figures",
        fresh=given.fresh,
    )
    for count in given.threads:
        measure_machine(run, given.device, count)
    if "evaluation" in given.only:
        measure_evaluation(run, given.device, given.threads, **preset["evaluation"])
    if "training" in given.only:
        measure_training(run, given.device, given.threads, **preset["training"])
    if "bank" in given.only and "bank" in parts:
        measure_bank(run, given.folder, max(given.threads), preset["bank"])
    print(markdown(run.record))
    if not {row["config"]["part"] for row in run.record.rows} >= set(parts):
        return
    paths = [run.finish(), save_figure(figure(run.record), FIGURE, run.figures)]
    print("", *map(os.path.relpath, paths), sep="\n")
    if given.preset == "full":
        options = "" if given.device == "cpu" else f" --device {given.device}"
        options += f" --out {given.out}" if given.out else ""
        print(f"`python bench/bench.py --publish{options}` copies them to where git keeps them")


def main() -> None:
    parser, given = options_of()
    folder = folder_of(given.preset, given.device, given.out)
    if not given.publish:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return measure_all(given, folder)
    try:
        places = data_dir() / "results", REPO_ROOT / "figures"
        copies = publish(folder, given.device, *places, dirty=given.dirty)
    except ValueError as error:
        parser.exit(2, f"bench.py: {error}\n")
    for path in copies:
        print(os.path.relpath(path))


if __name__ == "__main__":
    main()
