"""How long does it take to walk through the book?

`python docs/walk.py` clones the repository and opens every notebook in the order of contents in
JupyterLab, in Debian's Chromium, runs all its cells, and stops where one fails. It writes
data/results/walk/HASH.json: seconds of each notebook and of its slowest cell. Half an hour on
two cores; `--only 12_cost ...` walks some anew, `--table` prints what is known.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from servers import SCREENSHOTS, browser_page, lab, run_in_lab

from diml_nb._internal.device import progress_bar
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.records.record import Record, load_record, save_record

NBS, RECORDS = REPO_ROOT / "nbs", REPO_ROOT / "data" / "results" / "walk"


def read(name: str, nbs: Path = NBS) -> list[dict]:
    return json.loads((nbs / f"{name}.ipynb").read_text())["cells"]


def text(cell: dict) -> str:
    return "".join(cell["source"])


ORDER = [
    "index",
    "contents",
    *re.findall(
        r"^\| \[.*?\]\(([\w/]+)\.ipynb\)", "\n".join(map(text, read("contents"))), flags=re.M
    ),
]
WAYS = {
    "first, understand one score": [
        "10_features",
        "12_cost",
        "14_marginals",
        "16_sinkhorn",
        "18_matching",
    ],
    "then train a network, search with it, judge it, ask it why": [
        "20_data",
        "22_metrics",
        "24_retrieval",
        "30_distances",
        "30_losses",
        "31_batches",
        "31_embedding",
        "31_evaluation",
        "32_training",
        "33_probe",
        "40_explain",
        "41_parts",
        "40_what_if",
        "41_faithfulness",
        "41_truth",
        "90_exercises",
    ],
    "reproduce the paper, and doubt it": (
        [f"reproduce/{p.stem}" for p in sorted((NBS / "reproduce").glob("[!_]*.ipynb"))]
        + ["60_reproduce", "61_grid", "61_jobs", "63_answers"]
    ),
}


def minutes(name: str) -> float:
    "To read a notebook, at 200 words or 15 lines of code a minute."
    return sum(
        (
            len(text(cell).split()) / 200
            if cell["cell_type"] == "markdown"
            else len(text(cell).split("\n")) / 15
        )
        for cell in read(name)
    )


def walked() -> dict[str, dict]:
    "What the last walk found: notebook -> seconds, slowest, cells."
    return {
        row["config"]["notebook"]: row["result"]
        for path in RECORDS.glob("*.json")
        for row in load_record(path).rows
    }


def took(cell: dict) -> float:
    "Seconds between a cell's start and its reply, as JupyterLab notes them in a notebook."
    times = cell["metadata"]["execution"]
    first, last = (
        datetime.fromisoformat(times[key]) for key in ("iopub.execute_input", "shell.execute_reply")
    )
    return (last - first).total_seconds()


def walk(page, address: str, nbs: Path, name: str, limit: int = 1200) -> dict:
    "Run a notebook as a student does; `RuntimeError` shows the first cell that fails."
    if not any(cell["cell_type"] == "code" for cell in read(name, nbs)):
        return dict(seconds=0.0, slowest=0.0, cells=0)  # the glossary
    run_in_lab(page, address, f"{name}.ipynb", limit)
    while True:  # between two cells it looks idle too
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)
        cells = [cell for cell in read(name, nbs) if cell["cell_type"] == "code" and cell["source"]]
        for cell in cells:
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    raise RuntimeError(
                        f"{name}: {output['ename']}: {output['evalue']}\n\n{text(cell)}"
                    )
        if all("shell.execute_reply" in cell["metadata"].get("execution", {}) for cell in cells):
            break
    page.screenshot(path=SCREENSHOTS / "walk" / f"{name.replace('/', '-')}.png")
    for session in page.request.get(f"{address}/api/sessions?token=abc").json():
        page.request.delete(
            f"{address}/api/sessions/{session['id']}?token=abc",
            headers={"Authorization": "token abc"},
        )
    seconds = [took(cell) for cell in cells]
    return dict(seconds=round(sum(seconds), 1), slowest=round(max(seconds), 1), cells=len(cells))


def table() -> str:
    rows = [
        f"| {name} | {minutes(name):.0f} | {x['seconds']:.1f} | {x['slowest']:.1f} |"
        for name, x in walked().items()
    ]
    return "\n".join(
        [
            "| notebook | minutes to read | seconds to run | slowest cell |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NOTEBOOK",
        choices=ORDER,
        default=ORDER,
        help="walk through these, and keep what is known of the others",
    )
    parser.add_argument(
        "--table", action="store_true", help="print what is known, and walk nowhere"
    )
    options = parser.parse_args()
    if options.table and options.only != ORDER:
        parser.error("--only: has no meaning with --table, which walks nowhere")
    if options.table:
        return print(table())
    chosen, record = options.only, Record("walk", dict(preset="full"), {}, finished=True)
    path, found = RECORDS / f"{record.hash}.json", walked()
    (SCREENSHOTS / "walk").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", REPO_ROOT, clone], check=True)
        with lab(Path(folder), clone) as address, browser_page() as page:
            for name in progress_bar(chosen, "notebooks"):
                found[name] = walk(page, address, clone / "nbs", name)
                print(name, found[name], flush=True)
                record.rows = [
                    dict(
                        config=dict(notebook=x),
                        result=found[x],
                        kind="timed",
                        seconds=found[x]["seconds"],
                    )
                    for x in ORDER
                    if x in found
                ]
                save_record(record, path)
    print(path.relative_to(REPO_ROOT))


if __name__ == "__main__":
    main()
