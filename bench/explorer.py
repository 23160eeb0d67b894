"""How long does a reader wait between moving a slider and seeing the picture?

`python -m bench.explorer` opens the explorers in JupyterLab and Voila, in Debian's Chromium, moves
each slider by the arrow keys, and prints one line of JSON a server: median and 95th percentile, in
milliseconds, from the browser's time of the key to the first frame with the new picture.
`--screenshots FOLDER` saves pictures of the explorers there: those in figures/ are made so.
The first line says what parts add to an explanation: milliseconds of the network, of the match at
14 x 14 cells and of its parts, in turn in this process.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch

from bench.measure import interleaved, spread
from diml_nb import data_dir, get_backbone, grid_features, match, parts
from tests.servers import browser_page, lab, run_in_lab, voila

WATCH = """([root, attribute]) => {
  let from = 0;
  window.waits = [];
  window.watcher?.disconnect();
  addEventListener('keydown', event => { from = event.timeStamp; }, true);
  const drawn = () => {
    if (from) window.waits.push(performance.now() - from);
    from = 0;
  };
  window.watcher = new MutationObserver(() => from && requestAnimationFrame(drawn));
  const attributes = {attributes: true, attributeFilter: [attribute]};
  window.watcher.observe(root, attribute ? attributes : {childList: true, subtree: true});
}"""
SLIDERS = {  # explorer, name of the slider, what is drawn anew, the attribute that tells so
    "pair, eps": (".PairExplorer", "eps", ".diml-pair", "data-version"),
    "pair, flows": (".PairExplorer", "flows", ".diml-pair", "data-version"),
    "iterations, iteration": (".SinkhornExplorer", "iteration", ".diml-plan-view", None),
    "iterations, eps": (".SinkhornExplorer", "eps", ".diml-plan-view", None),
    "steps, step": (".StepByStep", "step", ".diml-step", None),
    "gallery, eps": (".RetrievalExplorer", "eps", ".RetrievalExplorer .diml-pair", "data-version"),
    "gallery, eps, two compared": (".RetrievalExplorer", "eps", ".diml-why", None),
}


def waits(
    page, explorer: str, slider: str, drawn: str, attribute: str | None, moves: int
) -> list[float]:
    "Milliseconds from key to picture for each of some moves of a slider, there and back."
    box = page.locator(explorer).first
    box.scroll_into_view_if_needed()
    handle = box.locator(".widget-slider", has=page.get_by_text(slider, exact=True)).first.locator(
        ".noUi-handle"
    )
    page.evaluate(WATCH, [page.locator(drawn).first.element_handle(), attribute])
    handle.focus()
    for move in range(moves):
        before = page.evaluate("window.waits.length")
        page.keyboard.press("ArrowRight" if move % 8 < 4 else "ArrowLeft")
        page.wait_for_function("n => window.waits.length > n", arg=before, timeout=10_000)
        page.wait_for_timeout(250)
    return page.evaluate("window.waits")[2:]  # the first moves find cold caches


def measure(page, moves: int) -> dict:
    found = {}
    for name, where in SLIDERS.items():
        if "compared" in name:
            compare(page)
        times = sorted(waits(page, *where, moves))
        found[name] = dict(
            median_ms=round(statistics.median(times)),
            p95_ms=round(times[int(0.95 * (len(times) - 1))]),
            moves=len(times),
        )
    return found


def compare(page) -> None:
    "Ask of the gallery's second candidate why the first one stands above it."
    page.locator(".RetrievalExplorer .diml-row").nth(1).locator("button").nth(1).focus()
    page.keyboard.press("c")
    page.locator('img[alt*=" less "]').wait_for(timeout=20_000)


def explanation(rounds: int) -> dict:
    "Milliseconds of each step from two pictures to their parts; median, first and last decile."
    backbone = get_backbone(image_size=448)
    files = [data_dir() / "emoji" / "owl" / f"{design}.png" for design in ("noto", "emojione")]
    ready_bchw = torch.stack([backbone.preprocess(file) for file in files])
    with torch.no_grad():
        x = grid_features(backbone(ready_bchw), grid=14)
        pair = match(x[0], x[1])
        steps = {
            "network": lambda _: backbone(ready_bchw),
            "match": lambda _: match(x[0], x[1]),
            "parts": lambda _: parts(pair),
        }
        taken = interleaved(steps, rounds)
    return {step: [round(1e3 * t, 2) for t in spread(taken[step])] for step in steps}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--moves", type=int, default=26)
    options.add_argument("--screenshots", type=Path)
    chosen = options.parse_args()
    if chosen.moves < 4:
        options.error(
            f"--moves: expected at least 4, got {chosen.moves}"
        )  # the first two are left out
    if chosen.screenshots and not chosen.screenshots.is_dir():
        options.error(f"--screenshots: there is no folder {chosen.screenshots}")
    print(json.dumps({"explanation_ms": explanation(chosen.moves)}), flush=True)
    for name, server in (("JupyterLab", lab), ("Voila", voila)):
        with (
            tempfile.TemporaryDirectory() as folder,
            server(Path(folder)) as address,
            browser_page() as page,
        ):
            if server is lab:
                run_in_lab(page, address, "explore/explorers.ipynb")
            else:
                page.goto(f"{address}/?token=abc", timeout=120_000)
            page.locator(".RetrievalExplorer .diml-pair").wait_for(timeout=120_000)
            print(json.dumps({"server": name} | measure(page, chosen.moves)), flush=True)
            if chosen.screenshots and server is voila:
                screenshots(page, chosen.screenshots)


def screenshots(page, folder: Path) -> None:
    "One picture an explorer, in a state that shows something."
    # a window that needs no scrolling: the part above it would be missing in the picture
    page.set_viewport_size({"width": 1400, "height": 3000})
    page.reload(timeout=120_000)
    page.locator(".RetrievalExplorer .diml-pair").wait_for(timeout=120_000)
    page.locator('.PairExplorer rect.diml-cell[data-side="a"][data-n="17"]').first.click()
    compare(page)
    for name in ("Pair", "Sinkhorn", "Retrieval"):
        page.locator(f".{name}Explorer").first.screenshot(
            path=folder / f"explorer-{name.lower()}.png"
        )
    page.locator(".StepByStep").screenshot(path=folder / "explorer-steps.png")


if __name__ == "__main__":
    main()
