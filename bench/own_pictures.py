"""How long does a reader of "Your own two pictures" wait, and how near is that page to Python?

`python -m bench.own_pictures` makes the page of docs/own_pictures.py, opens it in Debian's Chromium
and prints JSON: its sizes in MB; seconds until the network is ready; for each kind of second
picture the seconds from its choice to the answer, median and worst; and over pairs of embedded
drawings the largest difference of any score to that of `PairExplorer`. `--screenshots FOLDER` saves
a picture of the page there: the one in figures/ is made so.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from diml_nb import data_dir, load_image
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.viz.widgets.pair import PairExplorer
from tests.servers import chromium, serve_files

sys.path.insert(0, str(REPO_ROOT / "docs"))
import own_pictures  # noqa: E402

SIZES = ((1600, 1200), (4000, 3000), (8000, 6000))
DRAWINGS = sorted((data_dir() / "emoji").glob("*/*.png"))
DONE = "() => !/asked|Reading|Matching/.test(document.querySelector('.diml-status').textContent)"


def choose(page, side: str, file: Path) -> float:
    "Choose a file; the seconds until the page has done with it."
    page.locator(".diml-status").evaluate("node => { node.textContent = 'asked'; }")
    start = time.perf_counter()
    page.locator(f'input[data-side="{side}"]').set_input_files(file)
    page.wait_for_function(DONE)
    return time.perf_counter() - start


def photograph(folder: Path, size: tuple[int, int]) -> Path:
    "A picture of that size as a JPEG: an enlarged drawing."
    file = folder / f"{size[0]} x {size[1]}.jpg"
    load_image(DRAWINGS[7]).resize(size).save(file, quality=90)
    return file


def answers(page, folder: Path, moves: int) -> dict:
    "Seconds from the second picture to its answer, by kind of picture."
    choose(page, "a", DRAWINGS[0])
    seconds = {}
    files = {"drawing": DRAWINGS[1]} | {str(size): photograph(folder, size) for size in SIZES}
    for kind, file in files.items():
        taken = [choose(page, "b", file) for _ in range(moves)]
        seconds[kind] = dict(median=round(statistics.median(taken), 2), worst=round(max(taken), 2))
    return seconds


def largest_difference(page, pairs: int) -> float:
    "Of a score of the page and of Python, over pairs of drawings."
    differences = []
    step = len(DRAWINGS) // (2 * pairs)
    for k in range(pairs):
        a, b = DRAWINGS[2 * k * step], DRAWINGS[(2 * k + 1) * step]
        choose(page, "a", a)
        choose(page, "b", b)
        text = page.locator(".diml-beside").inner_text()
        shown = [float(value) for value in re.findall(r"-?\d\.\d{4}", text)]
        scores = PairExplorer(a, b).view.data["beside"]
        expected = [score["value"] for score in scores]
        differences += [abs(x - y) for x, y in zip(shown, expected, strict=True)]
    return max(differences)


def save_picture(page, folder: Path) -> None:
    "The page with its two drawings."
    page.get_by_role("button", name="take two drawings").click()
    page.get_by_text("Matched in").wait_for()
    page.locator(".diml-status").evaluate("node => { node.textContent = ''; }")  # a time changes
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "own-pictures.png")


def measure(folder: Path, moves: int, pairs: int, screenshots: Path | None) -> dict:
    "All numbers of one page."
    site = folder / "page"
    own_pictures.write_page(site, REPO_ROOT / "build" / "docs")
    with serve_files(site) as address, chromium() as browser:
        page = browser.new_page(viewport=dict(width=1240, height=800))
        page.set_default_timeout(120_000)
        page.goto(f"{address}/")
        start = time.perf_counter()
        page.get_by_role("button", name="fetch the network").click()
        page.get_by_role("button", name="the network is here").wait_for()
        ready = time.perf_counter() - start
        if screenshots:
            save_picture(page, screenshots)
        found = dict(
            megabytes={path.name: round(path.stat().st_size / 1e6, 2) for path in site.iterdir()},
            network_ready=round(ready, 2),
            seconds=answers(page, folder, moves),
            largest_difference=round(largest_difference(page, pairs), 5),
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=7, help="how often each picture is chosen")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of drawings")
    parser.add_argument("--screenshots", type=Path, help="a folder for a picture of the page")
    options = parser.parse_args()
    if not 1 <= options.pairs <= len(DRAWINGS) // 2:
        parser.error(f"--pairs: expected 1 to {len(DRAWINGS) // 2}, got {options.pairs}")
    if reason := own_pictures.missing():
        sys.exit(f"bench.own_pictures needs {reason}")
    with tempfile.TemporaryDirectory() as folder:
        numbers = measure(Path(folder), options.moves, options.pairs, options.screenshots)
        print(json.dumps(numbers, indent=1))
