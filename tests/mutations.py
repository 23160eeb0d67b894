"""Do the pinned rows see a bug, and nothing but a bug? Changes a copy of the repository on purpose,
one change at a time.

`python tests/mutations.py` (`make mutations`, half an hour on two cores) applies each change to
a copy, runs the smoke preset of every experiment there and compares with the pinned rows. A
change that computes nothing else must fail nothing and make no record stale; a bug must fail the
experiments that use the changed code, and no other. Keeps what came out in
data/golden/mutations.json, change by change, and prints it as a table; `--only WORD` takes the
changes whose name holds the word.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from diml_nb._internal.device import progress_bar
from diml_nb._internal.paths import REPO_ROOT, atomic_write, cache_dir, data_dir
from diml_nb.experiments.notebook import experiments
from diml_nb.records.comparison import pinned_path
from diml_nb.records.provenance import current_commit
from diml_nb.records.record import load_record


class Mutant(NamedTuple):
    """A change of the library: texts that are replaced wherever they stand in some files, and who
    computes with them."""

    name: str
    edits: dict[str, list[tuple[str, str]]]  # file of diml_nb -> (old, new), ...
    used_by: Callable[[str], bool] | None  # experiment -> must it fail? None: nobody may
    why: str  # who uses it, in words


def configs(name: str) -> str:
    "Configuration of an experiment's pinned run and of all its rows, as text."
    pinned = load_record(pinned_path(name))
    return json.dumps([pinned.config, *(row["config"] for row in pinned.rows)])


def ranks(name: str) -> bool:
    "Do an experiment's pinned rows hold MAP@R or R-precision, anywhere in their results?"
    text = json.dumps([row["result"] for row in load_record(pinned_path(name)).rows])
    return "r_precision" in text or "average_precision" in text


def weighs(name: str) -> bool:
    "Does an experiment match cells by their own masses?"
    return "DIML" in configs(name) or "transport" in configs(name)


def transports(name: str) -> bool:
    "Does an experiment use Sinkhorn's algorithm, with whatever masses?"
    return weighs(name) or "flow" in configs(name) or "Sinkhorn" in configs(name)


def uses_loss(loss: str) -> Callable[[str], bool]:
    return lambda name: f'"{loss}"' in configs(name) or loss in IN_CELLS.get(name, ())


# losses that an experiment names in its cells and not in its configuration
IN_CELLS = {
    name: ("multi_similarity",)
    for name in ("06_ablations", "07_beyond", "08_trained_explanations", "09_cost", "11_grouping")
}

MOVED = "def _is_spatial(x) -> bool:\n"
HARMLESS = [
    Mutant(
        "a comment",
        {
            "retrieval/metrics.py": [
                (
                    "    relevant_qk = ",
                    "    # is the image in this place of the query's class?\n    relevant_qk = ",
                )
            ]
        },
        None,
        "nobody",
    ),
    Mutant(
        "an error message",
        {
            "retrieval/search.py": [("got {", "received {")],
            "ot/matching.py": [("got {", "received {")],
        },
        None,
        "nobody",
    ),
    Mutant(
        "a renamed local variable",
        {"retrieval/metrics.py": [("place_k", "rank_k"), ("inside_qk", "counted_qk")]},
        None,
        "nobody",
    ),
    Mutant("a moved function", {}, None, "nobody"),
    Mutant(
        "a new helper",
        {
            "ot/matching.py": [
                ("def check_features", "def _helper(x):\n    return x + 1\n\n\ndef check_features")
            ]
        },
        None,
        "nobody",
    ),
]
TOGETHER = Mutant(", ".join(x.name for x in HARMLESS), {}, None, "nobody")
LOOSER = [("tol: float = 1e-3", "tol: float = 1e-2")]
WITH_TOLERANCE = (
    "explain/counterfactual",
    "ot/pairs",
    "learning/distances",
    "ot/matching",
    "retrieval/rerank",
    "ot/sinkhorn",
)
BUGS = [
    Mutant(
        "an off-by-one in R-precision",
        {"retrieval/metrics.py": [("(place_k <= r_q[:, None])", "(place_k < r_q[:, None])")]},
        ranks,
        "rows with R-precision",
    ),
    Mutant(
        "swapped marginals",
        {
            "ot/marginals.py": [
                ("Marginals(mass_a_bn, mass_b_bm, ", "Marginals(mass_b_bm, mass_a_bn, ")
            ]
        },
        weighs,
        "rows of a matching by masses",
    ),
    Mutant(
        "tolerance of Sinkhorn .01 for .001",
        {f"{module}.py": LOOSER for module in WITH_TOLERANCE},
        transports,
        "rows of Sinkhorn's algorithm",
    ),
    Mutant(
        "weight alpha of Multi-Similarity 4 for 2",
        {"learning/losses.py": [("dict(alpha=2, beta=40", "dict(alpha=4, beta=40")]},
        uses_loss("multi_similarity"),
        "networks trained by it",
    ),
    Mutant(
        "margin of the Margin loss .3 for .2",
        {"learning/losses.py": [("dict(margin=0.2, beta=1.2", "dict(margin=0.3, beta=1.2")]},
        uses_loss("margin"),
        "networks trained by it",
    ),
]


def copy_of_the_repository(folder: Path) -> Path:
    "Everything that git knows or would add, and links to the data sets that are here."
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (REPO_ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPO_ROOT / name, folder / name)
    for path in data_dir().iterdir():
        if (path / "images.csv").exists() and not (folder / "data" / path.name).exists():
            (folder / "data" / path.name).symlink_to(path)
    return folder


def apply(mutant: Mutant, copy: Path) -> dict[Path, str | None]:
    "Change the copy; returns what the files held before, None for those that were not there."
    if mutant is TOGETHER:
        before: dict[Path, str | None] = {}
        for part in HARMLESS:
            before = (
                apply(part, copy) | before
            )  # the first state of a file is the one to come back to
        return before
    before = {}
    for name, edits in mutant.edits.items():
        path = copy / "diml_nb" / name
        before[path] = text = path.read_text()
        for old, new in edits:
            text = text.replace(old, new)
        if text == before[path]:
            raise ValueError(f"{mutant.name}: nothing to change in {name}")
        path.write_text(text)
    if mutant.name == "a moved function":
        before |= move_a_function(copy / "diml_nb")
    return before


def move_a_function(library: Path) -> dict[Path, str | None]:
    "features.backbones._is_spatial goes to a module of its own, and is imported from there."
    path, target = library / "features" / "backbones.py", library / "features" / "positions.py"
    before = path.read_text()
    start = before.index(MOVED)
    end = before.index("\n\n\n", start)
    target.write_text("from torch import Tensor\n\n\n" + before[start:end] + "\n")
    path.write_text(before[:start] + "from .positions import _is_spatial" + before[end:])
    return {path: before, target: None}


def restore(before: dict[Path, str | None]) -> None:
    "Files as they were; None: there was none."
    for path, text in before.items():
        if text is None:
            path.unlink()
        else:
            path.write_text(text)


def diml(copy: Path, *words: str) -> subprocess.CompletedProcess:
    "The command of the copy."
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "DIML_DATA": str(copy / "data"),
        "DIML_CACHE": str(cache_dir()),
        "OMP_NUM_THREADS": "1",
        "DIML_QUIET": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "diml_nb", *words],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )


def check(copy: Path, name: str) -> str:
    """What the comparison with the pinned rows says of one experiment; empty if it agrees. A bug
    may also stop the run: a shape that no longer fits is seen, too."""
    done = diml(copy, "verify", name, "--pinned")
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stdout.splitlines()]
    differing = [line for line in lines if line.startswith(f"{name}, row")]
    if not differing and f"{name}.smoke failed" in done.stderr:
        return f"{name}: the smoke run stops with an error"
    if not differing:
        raise RuntimeError(f"{name} did not run in the copy: {done.stderr[-1000:]}")
    return differing[0]


def stale(copy: Path) -> int:
    "How many committed records of all presets are stale in the copy."
    return sum(
        diml(copy, "report", "--preset", preset).stdout.count(" stale ")
        for preset in ("quick", "full")
    )


def judge(mutant: Mutant, copy: Path) -> dict:
    "Apply a change, compare every experiment with its pinned rows, and undo it."
    before = apply(mutant, copy)
    try:
        with ThreadPoolExecutor(2) as pool:
            said = dict(zip(experiments(), pool.map(lambda name: check(copy, name), experiments())))
        outdated = stale(copy)
    finally:
        restore(before)
    failed = [name for name, text in said.items() if text]
    expected = [name for name in experiments() if mutant.used_by and mutant.used_by(name)]
    return {
        "change": mutant.name,
        "used by": mutant.why,
        "expected": expected,
        "failed": failed,
        "stale": outdated,
        "as expected": failed == expected and not outdated,
        "first": next(filter(None, said.values()), ""),
    }


def table(found: list[dict]) -> str:
    "In markdown."
    lines = [
        "| change | used by | fails the pinned rows of | stale records | as expected |",
        "| --- | --- | --- | --- | --- |",
    ]
    for x in found:
        failed = ", ".join(name[:2] for name in x["failed"]) or "none"
        expected = ", ".join(name[:2] for name in x["expected"]) or "none"
        verdict = "yes" if x["as expected"] else f"NO, expected {expected}"
        lines.append(f"| {x['change']} | {x['used by']} | {failed} | {x['stale']} | {verdict} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="changes whose name holds this word")
    options = parser.parse_args()
    chosen = [mutant for mutant in [TOGETHER, *BUGS] if options.only in mutant.name]
    path, found = data_dir() / "golden" / "mutations.json", []
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_the_repository(Path(folder))
        for mutant in progress_bar(chosen, "changes"):
            found.append(judge(mutant, copy) | {"commit": current_commit()})
            kept = json.loads(path.read_text()) if path.exists() else []
            others = [x for x in kept if x["change"] != mutant.name]
            with atomic_write(
                path
            ) as partial:  # after each change, so that a killed run has not been for nothing
                partial.write_text(json.dumps([*others, found[-1]], indent=1) + "\n")
    print(table(found))
    return int(not all(x["as expected"] for x in found))


if __name__ == "__main__":
    sys.exit(main())
