"""How fast is the library, against whom, and how far from the limit of the machine?

`python -m bench` measures everything (a quarter of an hour on two cores) and writes a record and a
figure. `python -m bench --preset smoke` runs the same code at tiny sizes in under a minute.
Each row is kept as soon as it is measured, and a killed run goes on; `--fresh` starts again.
Record and figure are written under data/runs/PRESET (on a GPU: data/runs/PRESET/cuda).
`python -m bench --publish` copies them to data/results/bench and figures, where git keeps them.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch

from bench import bank, evaluation, provenance, step
from bench.figure import figure
from bench.measure import fresh, option_words, present_device, quietest, roofline, threads
from bench.tables import markdown
from diml_nb._internal.paths import REPO_ROOT, check_writable, data_dir
from diml_nb.experiments.runner import ExperimentRun, find_records, run_folder
from diml_nb.records.provenance import processor
from diml_nb.records.record import save_record
from diml_nb.viz.figures import save_figure

PRESETS: dict[str, dict] = {
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


# what is measured


def timed(run: ExperimentRun, config: dict, measure: Callable[[], dict]) -> dict:
    """A row of times with as many threads as `config` says; measured again when other processes
    disturbed it, as often as the preset says."""
    with threads(config["threads"]):
        tries = run.record.config["tries"]
        return run.row(config, lambda: quietest(measure, tries), kind="timed")


def measure_machine(run: ExperimentRun, device: str, count: int) -> dict:
    "What the machine does at best with this number of threads."
    return timed(
        run,
        dict(part="machine", threads=count),
        lambda: dict(processor=processor(device)) | roofline(device=device),
    )


def memory_of(module: str, **options) -> dict:
    "Peak memory of the official algorithm and of this library, each in a fresh process."
    words = option_words(**options)
    return {which: fresh(module, *words, "--peak", which) for which in ("official", "ours")}


def measure_set(
    run: ExperimentRun,
    device: str,
    counts: list[int],
    setting: dict,
    *,
    block: int,
    slow: int,
    rounds: int,
) -> None:
    "A query of one synthetic set: results checked, times for each number of threads, memory."
    size: dict = dict(
        images=setting["images"], grid=setting["grid"], per_class=setting["per_class"]
    )
    config = dict(part="evaluation") | setting

    @lru_cache  # made only for a row that is missing
    def task() -> evaluation.Task:
        return evaluation.Task(**size, block=block, device=device)

    run.row(config | dict(checked=slow), lambda: evaluation.check(task(), slow), kind="computed")
    for count in counts:
        machine = measure_machine(run, device, count)
        measure = partial(_measure_task, task, rounds, slow, machine)
        timed(run, config | dict(threads=count), measure)
    memory = partial(memory_of, "bench.evaluation", **size, block=block, device=device)
    run.row(config | dict(memory=True), memory, kind="timed")


def _measure_task(task: Callable, rounds: int, slow: int, machine: dict) -> dict:
    return evaluation.measure(task(), rounds, slow, machine)


def measure_step(
    run: ExperimentRun,
    device: str,
    counts: list[int],
    setting: dict,
    *,
    images: int,
    channels: int,
    rounds: int,
) -> None:
    "A training step of one loss: results checked, times for each number of threads, memory."
    loss, grid = setting["loss"], setting["grid"]
    size: dict = dict(images=images, channels=channels, device=device)
    config = dict(part="training") | setting

    @lru_cache  # made only for a row that is missing
    def data() -> tuple:
        return step.batch(grid, **size)

    run.row(config | dict(checked=True), lambda: step.check(loss, grid, data()), kind="computed")
    for count in counts:
        measured = config | dict(threads=count)
        timed(run, measured, lambda: step.measure(loss, grid, data(), rounds))
    memory = partial(memory_of, "bench.step", loss=loss, grid=grid, **size)
    run.row(config | dict(memory=True), memory, kind="timed")


def measure_bank(run: ExperimentRun, folder: str | None, count: int, setting: dict) -> None:
    "A store on disk that is written, searched and removed."

    def compute() -> dict:
        with tempfile.TemporaryDirectory(dir=folder, prefix="diml-bench-") as temporary:
            return bank.measure(Path(temporary), **setting, count=count)

    run.row(dict(part="bank", threads=count) | setting, compute, kind="timed")


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


def publish(
    folder: Path, device: str, results: Path, figures: Path, *, dirty: bool = False
) -> list[Path]:
    """Copy the finished full record of a run, and on the CPU its figure; returns the copies' paths.

    An older record of the same preset and device is removed. `ValueError` says why a record is not
    published: without `dirty`, one that no commit can repeat.
    """
    wanted = dict(device=device)
    try:
        record = find_records("bench", "full", results=folder / "results", **wanted)[0]
    except FileNotFoundError as error:
        options = "" if device == "cpu" else f" --device {device}"
        raise ValueError(
            f"no finished full record in {folder / 'results' / 'bench'}: "
            f"`python -m bench{options}` makes one"
        ) from error
    reason = "" if dirty else provenance.not_committed(record)
    if reason:
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


def parser_of() -> argparse.ArgumentParser:
    "The options of the command line."
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--threads", default="1,all", type=counts_of, help="numbers of threads, e.g. 1,all"
    )
    parser.add_argument(
        "--only",
        default=",".join(PARTS),
        type=lambda text: text.split(","),
        help="some of evaluation,training,bank; the record is finished when all are there",
    )
    parser.add_argument("--fresh", action="store_true", help="forget the rows of an earlier run")
    parser.add_argument("--out", help="folder for record and figure; default: data/runs/PRESET")
    parser.add_argument(
        "--folder",
        help="where the bank of a million images is written for a while (5 GB); default: the"
        " system's temporary folder",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="measure nothing: copy the finished full record and its figure to data/results/bench"
        " and figures",
    )
    parser.add_argument(
        "--dirty",
        action="store_true",
        help="with --publish: also a record of code that differs from its commit",
    )
    return parser


def check_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    "End with a sentence if the options cannot be meant, before anything is measured."
    unknown = sorted(set(given.only) - set(PARTS))
    if unknown:
        parser.error(f"--only: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    if given.folder and not Path(given.folder).is_dir():
        parser.error(f"--folder: there is no folder {given.folder}")
    if given.device != "cpu" and given.only == ["bank"]:
        parser.error("--only bank: the bank is measured on the CPU alone, without --device")
    if given.folder and "bank" not in given.only:
        parser.error("--folder: the bank alone is written there, and --only leaves it out")
    if given.publish:
        check_publishing(parser, given)
    elif given.dirty:
        parser.error("--dirty: has a meaning with --publish only")
    try:
        if not given.publish:
            present_device(given.device)
        check_writable(folder_of(given.preset, given.device, given.out))
    except argparse.ArgumentTypeError as error:
        parser.error(f"--device: {error}")
    except OSError as error:
        parser.error(f"--out: {error}")


def check_publishing(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    "Options that mean nothing with `--publish`, which measures nothing."
    defaults = parser.parse_args([])
    for name in ("only", "fresh", "folder", "threads"):
        if getattr(given, name) != getattr(defaults, name):
            parser.error(f"--{name}: has no meaning with --publish, which measures nothing")
    if given.preset != "full":
        parser.error(f"--publish: only preset full is published, not {given.preset}")


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
        source=provenance.source_here(),
        results=folder / "results",
        figures=folder / "figures",
        fresh=given.fresh,
    )
    for count in given.threads:
        measure_machine(run, given.device, count)
    for part, measure, settings in (
        ("evaluation", measure_set, "sets"),
        ("training", measure_step, "steps"),
    ):
        options = dict(preset[part])
        for setting in options.pop(settings) if part in given.only else ():
            measure(run, given.device, given.threads, setting, **options)
    if "bank" in given.only and "bank" in parts:
        measure_bank(run, given.folder, max(given.threads), preset["bank"])
    print(markdown(run.record))
    if not {row["config"]["part"] for row in run.record.rows} >= set(parts):
        return
    paths = [run.finish(), save_figure(figure(run.record), FIGURE, run.figures)]
    print("", *map(os.path.relpath, paths), sep="\n")
    if given.preset == "full":
        words = "" if given.device == "cpu" else f" --device {given.device}"
        words += f" --out {given.out}" if given.out else ""
        print(f"`python -m bench --publish{words}` copies them to where git keeps them")


def main() -> None:
    parser = parser_of()
    given = parser.parse_args()
    check_options(parser, given)
    folder = folder_of(given.preset, given.device, given.out)
    if not given.publish:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return measure_all(given, folder)
    results, figures = data_dir() / "results", REPO_ROOT / "figures"
    try:
        copies = publish(folder, given.device, results, figures, dirty=given.dirty)
    except ValueError as error:
        parser.exit(2, f"bench: {error}\n")
    for path in copies:
        print(os.path.relpath(path))


if __name__ == "__main__":
    main()
