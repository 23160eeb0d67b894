"""What a GPU does with this library: pairs of images, a step of a loss, training, in five minutes.

`python -m bench.gpu` measures on CUDA and writes a record under data/runs/PRESET/cuda after every
row; `--device cpu --preset smoke` runs all of it at tiny sizes in less than a minute, without a
GPU. A row that fails holds its message, one that no longer fits into `--seconds` says so, and the
same command measures these rows again. `--record` keeps the record in data/results/bench_gpu.
"""

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from bench.measure import present_device, roofline, seconds, tensor_cores
from diml_nb._internal.paths import data_dir
from diml_nb.experiments.runner import ExperimentRun, find_record, run_folder
from diml_nb.records.provenance import processor, source_of
from diml_nb.records.record import Record

NAME = "bench_gpu"
TOP_K = 100  # candidates of a list in the committed record of the other benchmark
SWITCHES = [
    dict(precision=precision, channels_last=channels_last, checkpointing=checkpointing)
    for checkpointing in (False, True)
    for channels_last in (False, True)
    for precision in ("float32", "no", "bf16")
]
PRECISIONS = {
    "float32": "float32, no TF32",
    "no": "float32, TF32 in convolutions (the default of `train`)",
    "bf16": "bfloat16",
}

# seconds that a row of "full" takes at most on an H200, as estimated before it was ever run there
NEEDS = dict(machine=8, check=15, pairs=8, memory=3, pot=8, step=4, training=8, loader=8, loop=12)
NEEDS |= dict(compiled=40)

PRESETS: dict[str, dict] = {
    "full": dict(
        lists=dict(images=6000, per_class=60, queries=2048, slow=8, pairs=8192),
        pairs=[dict(grid=4, goal=20.0), dict(grid=7, goal=50.0)],
        loss=dict(images=112, channels=128),
        steps=[dict(grid=4, goal=3.0), dict(grid=7, goal=None)],
        training=dict(
            backbone="torchvision/resnet50", image_size=224, images=112, embedding_dim=128, grid=4
        ),
        switches=SWITCHES,
        workers=[0, 4, 8, 16],
        batches=8,
        rounds=5,
        compiler="inductor",
        compiled=[4, 7],
        memory_goal=100.0,
    ),
    "smoke": dict(
        lists=dict(images=60, per_class=6, queries=4, slow=1, pairs=64),
        pairs=[dict(grid=4, goal=None), dict(grid=7, goal=None)],
        loss=dict(images=8, channels=16),
        steps=[dict(grid=4, goal=None)],
        training=dict(
            backbone="torchvision/resnet18", image_size=32, images=4, embedding_dim=8, grid=2
        ),
        switches=[SWITCHES[0], SWITCHES[-1]],
        workers=[0, 1],
        batches=2,
        rounds=1,
        compiler="eager",
        compiled=[4],
        memory_goal=None,
    ),
}


# what is measured


class Part(NamedTuple):
    "A row: its configuration, what kind of work it is, and the work."

    config: dict
    kind: str  # of `needs`
    measure: Callable[[], dict]


def machine(device: str) -> dict:
    "What this device does at best: products by precision, memory, copies from the host, a launch."
    found: dict = dict(processor=processor(device), threads=torch.get_num_threads())
    cuda = device.startswith("cuda")
    found |= roofline(2048 if cuda else 256, device=device) if cuda else {}
    a = torch.randn(4096 if cuda else 256, 4096 if cuda else 256, device=device)
    with tensor_cores(True):
        found["tf32_gflops"] = _gflops(a)
    found["bf16_gflops"] = _gflops(a.bfloat16())
    images = torch.ones(112 if cuda else 8, 3, 224, 224)
    found["copy_gbs"] = _copy_gbs(images, device)
    if cuda:
        found["pinned_copy_gbs"] = _copy_gbs(images.pin_memory(), device)
    one = torch.ones(1, device=device)
    found["launch_us"] = 1e4 * min(seconds(_launch_hundred, one) for _ in range(5))
    return found


def _gflops(a: torch.Tensor) -> float:
    a @ a
    return 2e-9 * len(a) ** 3 / min(seconds(lambda: a @ a) for _ in range(5))


def _copy_gbs(x: torch.Tensor, device: str) -> float:
    "GB/s from the host to the device (on a CPU: a copy in its memory)."
    return 1e-9 * x.nbytes / min(seconds(lambda: x.to(device, copy=True)) for _ in range(5))


def _launch_hundred(x: torch.Tensor) -> None:
    for _ in range(100):
        x.add_(1)


def from_module(module: str, function: str, *arguments: Any, **options: Any) -> dict:
    "Call a function of bench; what its module needs is imported now, so that it fails in its row."
    return getattr(import_module(f"bench.{module}"), function)(*arguments, **options)


def pair_parts(preset: dict, device: str, setting: dict) -> list[Part]:
    "The rows of one grid: what has a goal, what may fail, and, for later, what compiles."
    rounds = preset["rounds"]

    @lru_cache  # made only for a row that is missing
    def lists() -> Any:
        from bench.gpu_pairs import Lists

        return Lists(setting["grid"], **preset["lists"], device=device)

    def part(kind: str, function: str, *arguments: Any, **config: Any) -> Part:
        def measure() -> dict:
            return from_module("gpu_pairs", function, lists(), *arguments)

        return Part(dict(part=kind) | config | setting, kind, measure)

    parts = [
        part("check", "check", preset["lists"]["slow"]),
        part("pairs", "measure", rounds),
        part("memory", "memory"),
        part("pot", "measure_pot", rounds),
    ]
    if setting["grid"] in preset["compiled"]:
        for what in ("a fixed number of iterations", "match"):
            options = rounds, what, preset["compiler"]
            parts.append(part("compiled", "measure_compiled", *options, what=what))
    return parts


def measure_loss(device: str, grid: int, rounds: int, images: int, channels: int) -> dict:
    "Milliseconds of a step of Multi-Similarity on maps that are there, and the memory it adds."
    from bench import step
    from bench.measure import interleaved, peak_mb, spread

    data = step.batch(grid, images, channels, device)
    loss = step.ours("multi_similarity", grid, data)
    took = interleaved({"ours": lambda _: step.step(loss, *data)}, rounds)["ours"]
    memory = peak_mb(partial(step.step, loss, *data), device)
    return dict(ms=spread([1e3 * t for t in took]), extra_mb=memory["extra_mb"])


def training_parts(preset: dict, device: str) -> list[Part]:
    "Steps of a whole network, the loader, and both in one loop."
    size, batches = preset["training"], preset["batches"]
    best = dict(precision="bf16", channels_last=True)

    def part(kind: str, function: str, *arguments: Any, needs: str = "", **config: Any) -> Part:
        measure = partial(from_module, "gpu_training", function, size, *arguments)
        return Part(dict(part=kind) | config, needs or kind, measure)

    steps = [
        part("training", "measure_step", switches, device, preset["rounds"], **switches)
        for switches in preset["switches"]
    ]
    pins = (False, True) if device.startswith("cuda") else (False,)
    feeds = [dict(workers=n, pinned=pinned) for n in preset["workers"] for pinned in pins]
    loader = [part("loader", "measure_loader", device, feed, batches, **feed) for feed in feeds]
    loops = [
        part("loop", "measure_loop", best, device, feed, batches, **feed)
        for feed in (feeds[0], feeds[-1])
    ]
    switches = best | dict(compiler=preset["compiler"])
    options = switches, device, preset["rounds"]
    compiled = part("training", "measure_step", *options, needs="compiled", **switches)
    return [*steps, *loader, *loops, compiled]


def parts_of(preset: dict, device: str) -> list[Part]:
    "All rows, the ones with a goal first and those that compile last."
    parts = [Part(dict(part="machine"), "machine", partial(machine, device))]
    for setting in preset["pairs"]:
        parts += pair_parts(preset, device, setting)
    for setting in preset["steps"]:
        measure = partial(measure_loss, device, setting["grid"], preset["rounds"], **preset["loss"])
        parts.append(Part(dict(part="step") | setting, "step", measure))
    parts += training_parts(preset, device)
    # `match` itself, which takes longest to compile, at the very end
    return sorted(parts, key=lambda x: (x.kind == "compiled") + (x.config.get("what") == "match"))


# within a budget, whatever fails


@contextmanager
def at_most(limit: float) -> Iterator[None]:
    "`TimeoutError` in the block after so many seconds, where the system has a clock for it."

    def ring(*_: object) -> None:
        raise TimeoutError(f"it was stopped after {limit:.0f} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(limit, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(part: Part, needs: float, left: float) -> dict:
    "The result of a row; where it fails or does not fit, the reason."
    if needs > left:
        return dict(skipped=f"it takes up to {needs:.0f} s, {max(left, 0):.0f} s were left")
    try:
        with at_most(left):
            result = part.measure()
    except Exception as error:  # whatever it is: the rows that follow do not need this one
        message = " ".join(str(error).split())
        return dict(failed=f"{type(error).__name__}: {message[:500]}")
    finally:
        gc.collect()
        if torch.cuda.is_initialized() and usable("cuda"):
            torch.cuda.empty_cache()
    return result


def usable(device: str) -> bool:
    "Does the device still answer? After an illegal access of memory it does not, in this process."
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError:
        return False
    return True


def again(given: argparse.Namespace, left: float) -> None:
    "Go on in a new process with the rows that are left: its device answers again."
    words = ["--preset", given.preset, "--device", given.device, "--seconds", f"{left:.0f}"]
    words += ["--out", given.out] if given.out else []
    words += ["--record"] * given.record + ["--dirty"] * given.dirty
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bench.gpu", *words, "--go-on"])


def measure_all(given: argparse.Namespace) -> Record:
    "Measure what is missing, within the seconds, and finish the record."
    start, preset = time.perf_counter(), PRESETS[given.preset]
    folder = run_folder(given.preset, given.out)
    if given.device != "cpu":
        folder /= given.device.replace(":", "-")
    run = ExperimentRun(
        NAME,
        dict(preset=given.preset, device=given.device, seed=0) | preset,
        {},
        version=1,
        source=own_source(),
        results=folder / "results",
        figures=folder / "figures",
        fresh=given.fresh,
    )
    if not given.go_on:
        rows = [row for row in run.record.rows if not {"failed", "skipped"} & set(row["result"])]
        run.record.rows = rows
    for part in parts_of(preset, given.device):
        left = given.seconds - (time.perf_counter() - start)
        done = len(run.record.rows)
        needs = NEEDS[part.kind] if given.preset == "full" else 0
        result = run.row(part.config, partial(attempt, part, needs, left), kind="timed")
        if len(run.record.rows) == done:
            continue  # it was there
        print(f"{time.perf_counter() - start:6.1f} s  {words_of(part.config)}: {brief(result)}")
        if "failed" in result and not usable(given.device):
            again(given, given.seconds - (time.perf_counter() - start))
    print(os.path.relpath(run.finish()))
    return run.record


# what is said of it


def words_of(config: dict) -> str:
    "A row's setting in words."
    named = [f"{k} {v}" for k, v in config.items() if k not in ("part", "goal")]
    return ", ".join([config["part"], *named])


def why_not(result: dict) -> str:
    "The reason why there is no number; empty if there is one."
    return result.get("failed") or result.get("skipped") or ""


def brief(result: dict) -> str:
    "A result in a line."
    return why_not(result) or ", ".join(f"{name} {_number(x)}" for name, x in result.items())


def _number(x: Any) -> str:
    if isinstance(x, dict):
        return "(" + ", ".join(f"{name} {_number(value)}" for name, value in x.items()) + ")"
    if isinstance(x, list):
        return _number(x[0])
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def results(record: Record, part: str, **config: Any) -> list[tuple[dict, dict]]:
    "Configurations and results of the rows of a part with these settings."
    return [
        (row["config"], row["result"])
        for row in record.rows
        if row["config"]["part"] == part and config.items() <= row["config"].items()
    ]


def goals(record: Record) -> list[list[str]]:
    "What was to be reached: in words, before, the goal, what was measured or why not, reached?"
    asked = [
        ("pairs", "ns a pair", setting["grid"], setting["goal"])
        for setting in record.config["pairs"]
    ]
    asked += [
        ("step", "ms a step of Multi-Similarity", setting["grid"], setting["goal"])
        for setting in record.config["steps"]
    ]
    asked += [
        ("memory", "MB beyond the features", setting["grid"], record.config["memory_goal"])
        for setting in record.config["pairs"]
    ]
    return [_goal_line(record, *item) for item in asked]


# where the number of a goal stands in its row
VALUES: dict[str, Callable[[dict], float | None]] = {
    "pairs": lambda found: found["ns"]["ours"][0],
    "step": lambda found: found["ms"][0],
    "memory": lambda found: found["ours"]["extra_mb"],
}


def _goal_line(record: Record, part: str, words: str, grid: int, goal: float | None) -> list[str]:
    before = earlier(part, grid) if record.config["preset"] == "full" else None
    start = [
        f"{words}, {grid} x {grid} cells",
        *("-" if x is None else f"{x:,.4g}" for x in (before, goal)),
    ]
    found = results(record, part, grid=grid)
    reason = why_not(found[0][1]) if found else "not measured yet"
    try:
        value = None if reason else VALUES[part](found[0][1])
    except KeyError:
        value, reason = None, "see the row's message"
    if value is None:
        return [*start, reason or "-", "not measured"]
    reached = "" if goal is None else "reached" if value <= goal else "not reached"
    return [*start, f"{value:,.3g}", reached]


def committed(part: str, *, device: str, kind: str = "threads", **settings: Any) -> dict:
    """The first row of the committed record of `python -m bench` with these settings; "threads" are
    rows of time, "memory" rows of memory. `LookupError` if there is none."""
    wanted = dict(part=part) | settings
    for row in find_record("bench", "full", device=device).rows:
        if kind in row["config"] and wanted.items() <= row["config"].items():
            return row["result"]
    raise LookupError(f"the record of bench on {device} has no row with {wanted}")


def earlier(part: str, grid: int) -> float | None:
    "The same number in the committed record of `python -m bench --device cuda`, if it is there."
    places = {
        "pairs": dict(part="evaluation", images=6000),
        "step": dict(part="training", loss="multi_similarity"),
        "memory": dict(part="evaluation", images=6000, kind="memory"),
    }
    try:
        result = committed(**places[part], device="cuda", grid=grid)
    except (FileNotFoundError, LookupError):
        return None
    if part == "memory":
        return result["ours"]["extra_mb"]
    if part == "step":
        return result["ms"]["ours"][0]
    return 1e6 * result["ms"]["rerank"][0] / TOP_K


def on_gpu(part: str, *columns: str, **settings: Any) -> pd.DataFrame | str:
    """Columns of the committed record of this benchmark, medians of what was repeated; a sentence
    where there is no record yet."""
    try:
        record = find_record(NAME, "full", device="cuda")
    except FileNotFoundError:
        return "not measured yet: `python -m bench.gpu` measures it on a GPU"
    table = pd.DataFrame([config | found for config, found in results(record, part, **settings)])
    table = table.reindex(columns=[*columns, *table.columns.intersection(["failed", "skipped"])])
    table = table.map(lambda x: x[0] if isinstance(x, list) else PRECISIONS.get(x, x))
    return table.dropna(axis=1, how="all")


def _table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) if lines else ""


def pairs_table(record: Record) -> str:
    "Nanoseconds a pair: this library, then the rivals."
    lines = []
    for part in ("pairs", "pot", "compiled"):
        for config, result in results(record, part):
            cells = f"{config['grid']} x {config['grid']}"
            gap = f"{result['gap']:.0e}" if "gap" in result else ""
            for name, (ns, low, high) in result.get("ns", {}).items():
                lines.append([cells, name, f"{ns:,.3g} ({low:,.3g} to {high:,.3g})", gap])
            for name, reason in result.get("unable", {}).items():
                lines.append([cells, name, reason.replace("|", " "), ""])
            if why_not(result):
                named = config.get("what", part)
                lines.append([cells, f"{part}: {named}", why_not(result).replace("|", " "), ""])
    header = ["cells", "by", "ns a pair (deciles)", "largest difference of S from ours"]
    return _table(header, sorted(lines, key=lambda line: line[0]))


def training_table(record: Record) -> str:
    "Images a second and memory of steps of a whole network."
    lines = []
    for config, result in results(record, "training"):
        on = [name for name in ("channels_last", "checkpointing", "compiler") if config.get(name)]
        ips = result.get("images_per_second")
        memory = [result.get(name) for name in ("predicted_gb", "measured_gb")]
        numbers = ["-" if x is None else f"{x:.2f}" for x in memory]
        shown = f"{ips[0]:,.0f}" if ips else why_not(result).replace("|", " ")
        lines.append([PRECISIONS[config["precision"]], ", ".join(on), shown, *numbers])
    header = ["precision", "switched on", "images/s", "peak GB, predicted", "measured"]
    return _table([*header], lines)


def loader_table(record: Record) -> str:
    "Images a second that the loader brings, and of a whole loop."
    lines = []
    for config, result in results(record, "loader") + results(record, "loop"):
        ips = result.get("images_per_second")
        shown = f"{ips:,.0f}" if ips else why_not(result).replace("|", " ")
        share = result.get("share_in_loader")
        waits = "" if share is None else f"{share:.0%}"
        pinned = "pinned" if config["pinned"] else "pageable"
        lines.append([config["part"], str(config["workers"]), pinned, shown, waits])
    return _table(["", "workers", "memory", "images/s", "the step waits"], lines)


def markdown(record: Record) -> str:
    "The tables of a record: goals, pairs, training, loader, and the machine."
    parts = [
        _table(["", "before", "goal: at most", "measured", ""], goals(record)),
        pairs_table(record),
        training_table(record),
        loader_table(record),
        footnote(record),
    ]
    return "\n\n".join(part for part in parts if part)


def footnote(record: Record) -> str:
    "The checks, the machine and the record's name."
    said = []
    for config, result in results(record, "check"):
        cells = f"{config['grid']} x {config['grid']} cells"
        same = why_not(result) or (
            f"similarities of {result['queries']} queries within {result['similarity']:.0e} of"
            f" `match`, lists within {result['lists']:.0e}"
        )
        said.append(f"{cells}: {same}")
    machine = next((result for _, result in results(record, "machine")), {})
    commit = record.environment["commit"] or "no commit"
    return (
        f"({'; '.join(said)}. {machine.get('processor', record.config['device'])},"
        f" {record.environment['system']}; commit {commit[:8]}{commit[40:]}, record"
        f" `{record.hash}`)"
    )


# where it goes


def own_source() -> dict[str, str]:
    "Fingerprints of this program and of all that it reaches."
    names = ("gpu", "gpu_pairs", "gpu_training", "evaluation", "step", "measure", "synthetic")
    paths = [Path(__file__).with_name(f"{name}.py") for name in names]
    return source_of([path.read_text(encoding="utf-8") for path in paths])


def parser_of() -> argparse.ArgumentParser:
    "The options of the command line."
    parser = argparse.ArgumentParser(
        prog="bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--device", default="cuda", type=present_device, help="cuda or cpu")
    parser.add_argument(
        "--seconds", default=280.0, type=float, help="what no longer fits is skipped, and says so"
    )
    parser.add_argument("--out", help="folder of the record; default: data/runs/PRESET")
    parser.add_argument("--fresh", action="store_true", help="forget the rows of an earlier run")
    parser.add_argument("--record", action="store_true", help="keep the record in data/results")
    parser.add_argument("--dirty", action="store_true", help="also of code that is not committed")
    parser.add_argument("--go-on", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = parser_of()
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    record = measure_all(given)
    print(markdown(record))
    if given.record:
        from bench.index import keep

        try:
            print(os.path.relpath(keep(record, data_dir() / "results", dirty=given.dirty)))
        except ValueError as error:
            parser.exit(2, f"bench.gpu: {error}\n")


if __name__ == "__main__":
    main()
