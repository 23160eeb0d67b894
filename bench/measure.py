"""What all measurements share: interleaved timing, ratios of pairs, memory of a fresh process, and
the best that the machine can do."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

os.environ.setdefault("DIML_QUIET", "1")


def present_device(text: str) -> str:
    "A device that torch can compute on here, as an argument of a command."
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = f"torch cannot compute on {text!r} here ({str(error).splitlines()[0]})"
        raise argparse.ArgumentTypeError(message) from error
    return text


@contextmanager
def threads(count: int):
    "So many threads for torch, then as many as before."
    kept = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(kept)


@contextmanager
def tensor_cores(allowed: bool):
    "May float32 products round their factors to TF32?"
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = allowed
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def seconds(work: Callable, *arguments) -> float:
    "How long one call takes, until its last kernel has ended."
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    start = time.perf_counter()
    work(*arguments)
    wait()
    return time.perf_counter() - start


def interleaved(works: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round. Every round runs all of them, so that a slow minute of
    the machine hits all; round 0 warms up."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            duration = seconds(work, i)
            if i:
                took[name].append(duration)
    return took


@contextmanager
def others():
    """A dictionary that tells afterwards, on Linux, which share of the cores' time other processes
    took meanwhile: the noise of a shared machine."""

    def clock():
        ticks = [
            int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ]  # user nice system idle iowait irq softirq steal
        return (
            sum(ticks) / os.sysconf("SC_CLK_TCK"),
            sum(ticks[:3] + ticks[5:]) / os.sysconf("SC_CLK_TCK"),
            sum(os.times()[:4]),
        )

    found: dict[str, float] = {}
    if not Path("/proc/stat").exists():
        yield found
        return
    before = clock()
    yield found
    total, busy, own = (b - a for a, b in zip(before, clock(), strict=True))
    found["others"] = max(0.0, (busy - own) / total) if total else 0.0


def quietest(measure: Callable[[], dict], tries: int, most: float = 0.05) -> dict:
    """The first result during which other processes took at most this share of the cores, else of
    so many tries the least disturbed."""
    found = []
    for _ in range(tries):
        found.append(measure())
        if found[-1].get("others", 0) <= most:
            break
    return min(found, key=lambda x: x.get("others", 0))


def spread(values: list[float]) -> list[float]:
    "Median, then the first and the last decile."
    low, *_, high = (
        statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else 2 * values
    )
    return [statistics.median(values), low, high]


def ratio(slow: list[float], fast: list[float]) -> list[float]:
    "Spread of the ratios of pairs measured in one round."
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def _status(key: str) -> float:
    "Megabytes (1e6 bytes) that Linux states of this process."
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


def peak_mb(work: Callable, device: str | torch.device = "cpu") -> dict:
    """Megabytes that `work` adds to this process (on cuda: to the device) at its peak, and the peak
    of the whole. To be asked of a fresh process."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return dict(
            extra_mb=(torch.cuda.max_memory_allocated() - before) / 1e6,
            peak_mb=torch.cuda.max_memory_allocated() / 1e6,
        )
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError as error:
        work()
        return dict(
            extra_mb=None, peak_mb=None, reason=f"no /proc/self/clear_refs here: {error.strerror}"
        )
    resident = _status("VmRSS")
    work()
    return dict(extra_mb=_status("VmHWM") - resident, peak_mb=_status("VmHWM"))


def option_words(**options) -> list[str]:
    "Options of a command line: `per_class=2` becomes --per-class 2."
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return [word for pair in pairs for word in pair]


def fresh(module: str, *arguments) -> dict:
    "The JSON that a module prints as its last line, run in a process of its own."
    words = [str(argument) for argument in arguments]
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def roofline(size: int = 2048, repeats: int = 5, device: str = "cpu") -> dict:
    """Best GFLOP/s of a float32 product of two matrices, by torch's BLAS and by oneDNN, and GB/s of
    reading 400 MB once."""
    a = torch.randn(size, size, device=device)
    b = torch.randn(size, size, device=device)
    x = torch.ones(10**8, device=device)
    products = {"mm": lambda: a @ b}
    if a.device.type == "cpu" and torch.backends.mkldnn.is_available():
        am, bm = a.to_mkldnn(), b.to_mkldnn()  # MKL leaves AVX-512 unused on AMD, oneDNN does not
        products["mkldnn"] = lambda: torch.nn.functional.linear(am, bm)
    gflops = {}
    with others() as busy:
        for name, product in products.items():
            try:
                gflops[name] = 2e-9 * size**3 / min(seconds(product) for _ in range(repeats))
            except RuntimeError:
                pass  # a torch without this path
        gbs = x.numel() * 4e-9 / min(seconds(x.sum) for _ in range(repeats))
    return busy | dict(
        gflops=max(gflops.values()), best=max(gflops, key=lambda x: gflops[x]), gbs=gbs
    )
