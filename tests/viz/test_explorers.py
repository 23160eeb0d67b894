"""The explorers in a real browser, in JupyterLab and in Voila: what the page shows are the numbers
of `match`."""

import re

import pytest
import torch
from servers import (
    CHROMIUM,
    NO_CHROMIUM,
    SCREENSHOTS,
    browser_page,
    copy_of_the_book,
    lab,
    run_in_lab,
    voila,
)

from diml_nb._internal.paths import data_dir
from diml_nb.explain.counterfactual import match_reweighted
from diml_nb.explain.decomposition import flow_table
from diml_nb.explain.parts import parts
from diml_nb.features.grid import grid_features
from diml_nb.ot.exact import sinkhorn_trace
from diml_nb.ot.matching import match
from diml_nb.viz.widgets.controls import prepare_image

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
RULE = "cross_correlation_norm2"  # the one the page begins with


@pytest.fixture(scope="module")
def maps():
    "Feature maps of the two pineapples of the page."
    return [
        prepare_image(data_dir() / "emoji" / "pineapple" / f"{design}.png").map_bchw
        for design in ("emojione", "noto")
    ]


def features(maps, grid=7):
    return [grid_features(x, grid=grid) for x in maps]


class Pair:
    "The first pair explorer of a page, through what a reader sees of it."

    def __init__(self, page):
        self.page, self.box = page, page.locator(".PairExplorer").first
        self.view = self.box.locator(".diml-pair").first
        self.view.wait_for(timeout=60_000)

    def version(self):
        return int(self.view.get_attribute("data-version"))

    def score(self):
        return float(
            re.search(r"S = (-?[\d.]+)", self.view.locator(".diml-score").first.inner_text())[1]
        )

    def says(self):
        return self.view.locator(".diml-says").first.inner_text()

    def ribbons(self):
        return self.view.locator("path.diml-flow").evaluate_all(
            "all => all.map(e => [e.dataset.n, e.dataset.m, e.getAttribute('d'),"
            " e.getAttribute('stroke-width')].join())"
        )

    def table(self):
        return [
            row.split("\t")
            for row in self.view.locator(".diml-table tbody").inner_text().strip().split("\n")
        ]

    def cell(self, side, n):
        return self.view.locator(f'rect.diml-cell[data-side="{side}"][data-n="{n}"]')

    def slider(self, name):
        return self.box.locator(".widget-slider", has=self.page.get_by_text(name, exact=True)).first

    def changed(self, act):
        "Do something and wait until the picture has been drawn anew and the kernel is quiet."
        before = self.version()
        act()
        self.page.wait_for_function(
            "([e, v]) => Number(e.dataset.version) > v",
            arg=[self.view.element_handle(), before],
            timeout=60_000,
        )
        seen = None
        while seen != self.version():
            seen = self.version()
            self.page.wait_for_timeout(500)  # a local redraw may come before the kernel's

    def move(self, name, keys):
        handle = self.slider(name).locator(".noUi-handle")
        handle.focus()
        for key in keys:
            self.changed(lambda: self.page.keyboard.press(key))
        return float(self.slider(name).locator(".widget-readout").inner_text())


def check_pair(page, maps):
    "Parts, slider, click, menu, drop: picture, score, sentence and table are those of `match`."
    pair = Pair(page)
    a, b = features(maps)
    result = match(a, b, marginals=RULE)
    assert abs(pair.score() - result.similarity_b.item()) < 1e-4
    check_parts(pair, a, b)
    pair.view.get_by_role("button", name="flows", exact=True).click()
    before = pair.ribbons(), pair.table()

    eps = pair.move("eps", ["ArrowLeft"] * 3)
    assert eps < 0.05
    result = match(a, b, marginals=RULE, eps=eps)
    assert (
        abs(pair.score() - result.similarity_b.item()) < 3e-4
    )  # the page shows three digits of eps
    assert pair.ribbons() != before[0]
    assert pair.table() != before[1]
    best = flow_table(result, top=12)
    for row, a_cell, b_cell, contribution in zip(pair.table(), best.a, best.b, best.contribution):
        assert row[0] == a_cell
        assert row[1] == b_cell
        assert abs(float(row[4]) - contribution) < 3e-4

    n = result.contribution_bnm[0].sum(1).argmax().item()
    pair.cell("a", n).click()
    assert f"mass {result.mass_a_bn[0, n]:.4f}" in pair.says()
    assert pair.view.locator(".diml-locked").count() == 1
    page.keyboard.press("Escape")
    page.mouse.move(2, 2)  # a cell under the pointer would show flows of its own

    assert pair.move("flows", ["ArrowRight"]) == 13
    assert len(pair.ribbons()) == 13
    pair.changed(lambda: pair.box.locator("select").nth(0).select_option("4"))
    assert pair.view.locator("rect.diml-cell").count() == 32
    small = features(maps, grid=4)
    assert abs(pair.score() - match(*small, marginals=RULE, eps=eps).similarity_b.item()) < 3e-4

    pair.cell("a", 5).focus()
    pair.changed(lambda: page.keyboard.press("x"))
    kept = (torch.arange(16) != 5).float()
    dropped = match_reweighted(*small, weight_n=kept, marginals=RULE, eps=eps).similarity_b.item()
    assert abs(pair.score() - dropped) < 3e-4
    assert "1 cell dropped" in pair.view.inner_text()


def check_parts(pair, a, b):
    "Parts come first; one that is dropped is left out of the matching, until it is taken back."
    result = match(a, b, marginals=RULE)
    found = parts(result)
    shown = [float(x) for x in pair.view.locator(".diml-part b").all_text_contents()]
    assert shown == pytest.approx(found.contribution_k.tolist(), abs=1e-4)
    assert not pair.ribbons()

    pair.view.get_by_role("button", name="drop part 2").click()
    note = pair.view.locator(".diml-notes p", has_text="dropped: S")
    note.wait_for(timeout=60_000)  # the page draws at once, the kernel's numbers come later
    kept = dict(weight_n=(found.label_a_n != 1).float(), weight_m=(found.label_b_m != 1).float())
    without = match_reweighted(a, b, **kept, marginals=RULE)
    assert abs(pair.score() - without.similarity_b.item()) < 1e-4
    shown = [float(x) for x in pair.view.locator(".diml-part b").all_text_contents()]
    assert shown == pytest.approx(parts(without).contribution_k.tolist(), abs=1e-4)
    pair.view.get_by_role("button", name="take back").click()
    note.wait_for(state="detached", timeout=60_000)
    assert abs(pair.score() - result.similarity_b.item()) < 1e-4


def test_in_jupyterlab(tmp_path, maps):
    "Every explorer of the page, by mouse and by keys; nothing is asked of any other machine."
    with lab(tmp_path) as address, browser_page() as page:
        run_in_lab(page, address, "explore/explorers.ipynb")
        assert (
            page.locator(
                '[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback"
            ).count()
            == 0
        )
        check_pair(page, maps)
        assert (
            page.locator("[data-diml-static]").evaluate_all("all => all.map(e => e.style.display)")
            == ["none"] * 4
        )
        page.locator(".PairExplorer").first.screenshot(path=SCREENSHOTS / "lab-pair.png")
        check_own_images(page, tmp_path)
        check_iterations(page, maps)
        check_steps(page, maps)
        check_gallery(page)
        assert not page.faults, (page.faults, page.outside(address)[:3])
        assert not page.outside(address), (page.faults, page.outside(address)[:3])


def check_own_images(page, folder):
    """A file of one's own takes the place of B; one that cannot be read changes nothing and says
    why."""
    from PIL import Image

    pair = Pair(page)
    Image.new("RGB", (300, 200), "teal").save(folder / "mine.png")
    (folder / "broken.png").write_bytes(b"no picture")
    before = pair.score()
    for name in ("broken.png", "mine.png"):
        with page.expect_file_chooser() as chooser:
            pair.box.get_by_role("button", name=re.compile("own image B")).click()
        chooser.value.set_files(folder / name)
        if name == "broken.png":
            pair.box.get_by_role("alert").filter(has_text="broken.png").wait_for(timeout=60_000)
            assert pair.score() == before
    pair.view.get_by_text("mine.png").wait_for(timeout=60_000)
    for _ in range(200):  # the name stands there before the new pair is matched
        if pair.score() != before:
            break
        page.wait_for_timeout(100)
    assert pair.score() != before
    assert pair.view.locator(".diml-cross").count() == 0  # another pair: nothing is dropped


def check_iterations(page, maps):
    box = page.locator(".SinkhornExplorer").first
    box.scroll_into_view_if_needed()
    box.locator(".widget-slider", has=page.get_by_text("iteration", exact=True)).locator(
        ".noUi-handle"
    ).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    result = match(*features(maps, grid=3), marginals=RULE)
    error = sinkhorn_trace(result).marginal_error_k[3].item()
    says = box.locator(".diml-says")
    page.wait_for_function(
        "e => e.textContent.startsWith('After 4')", arg=says.element_handle(), timeout=60_000
    )
    shown = re.search(r"error of the columns is ([\d.e+-]+);", says.inner_text())[1]
    assert float(shown) == pytest.approx(error, rel=0.01)
    box.screenshot(path=SCREENSHOTS / "lab-iterations.png")


def check_steps(page, maps):
    box = page.locator(".StepByStep").first
    box.scroll_into_view_if_needed()
    assert "1. image" in box.inner_text()
    box.locator(".noUi-handle").focus()
    page.keyboard.press("End")
    box.get_by_text("9. score").wait_for(timeout=60_000)
    result = match(*features(maps), marginals=RULE)
    box.locator("input[type=number]").fill("1.2")
    box.locator("input[type=number]").press("Enter")
    box.locator("input[type=checkbox]").check()
    box.get_by_text(f"{(result.global_cosine_b + result.similarity_b).item():,.4g}.").wait_for(
        timeout=60_000
    )
    box.screenshot(path=SCREENSHOTS / "lab-steps.png")


def check_gallery(page):
    "Click a candidate: the pair opens. Press c on another: why. Filter: only such queries remain."
    box = page.locator(".RetrievalExplorer").first
    box.scroll_into_view_if_needed()
    after = box.locator(".diml-row").nth(1).locator("button")
    assert after.count() == 8
    scores = [
        float(re.search(r"score (-?[\d.]+)", name)[1])
        for name in after.evaluate_all("all => all.map(e => e.ariaLabel)")
    ]
    assert scores == sorted(scores, reverse=True)
    wanted = re.search(
        r"place 3: (.*), (right|wrong), score", after.nth(2).get_attribute("aria-label")
    )[1]
    after.nth(2).click()
    page.wait_for_function(
        "([e, t]) => e.querySelector('.diml-pair').textContent.includes(t)",
        arg=[box.element_handle(), wanted],
        timeout=60_000,
    )
    box.locator(".diml-row").nth(1).locator("button").nth(0).focus()
    page.keyboard.press("c")
    box.locator('.diml-why-pictures[aria-label*=" less "]').wait_for(timeout=60_000)
    check_dropped_parts(page, box)
    queries = box.locator("select").nth(1)
    all_queries = queries.locator("option").count()
    box.locator("select").nth(0).select_option("hurt")
    page.wait_for_function(
        "([e, n]) => e.options.length < n",
        arg=[queries.element_handle(), all_queries],
        timeout=60_000,
    )
    assert f", {queries.locator('option').count()} hurt," in box.inner_text()


def row_scores(box, title):
    "Scores of the candidates in a row of the gallery, by their names and in order."
    group = box.get_by_role("group", name=title, exact=True)
    group.wait_for(timeout=60_000)
    labels = group.locator("button").evaluate_all("all => all.map(e => e.ariaLabel)")
    found = [re.search(r": (.*), (?:right|wrong), score (-?[\d.]+)", label) for label in labels]
    return {name: float(score) for name, score in (match.groups() for match in found)}


def check_dropped_parts(page, box):
    """Of the two that are compared: the parts add up to the scores. A part dropped by the space
    bar takes from each score what the table says; taken back, all is as before."""
    names = box.locator(".diml-why-table thead th").all_inner_texts()[1:3]
    rows = box.locator(".diml-why-table tbody tr").all_inner_texts()
    table = torch.tensor([[float(x) for x in re.findall(r"[+-]?\d\.\d+", row)] for row in rows])
    assert torch.allclose(table[:-1].sum(0), table[-1], atol=3e-4)
    scores = row_scores(box, "by cosine + S")
    assert table[-1, :2].tolist() == pytest.approx([scores[name] for name in names], abs=2e-4)

    box.get_by_label("the same difference, cell by cell").check()
    box.locator('svg[aria-label*=", cells "]').wait_for(timeout=60_000)
    box.locator('input[data-part="0"]').focus()
    page.keyboard.press(" ")
    without = row_scores(box, "without part 1")
    assert list(without.values()) == sorted(without.values(), reverse=True)
    for name, adds in zip(names, table[1, :2].tolist()):  # row 0 is the cosine
        assert without[name] == pytest.approx(scores[name] - adds, abs=3e-4)
    assert "Without part 1: average precision at R" in box.locator(".diml-judged").inner_text()
    assert page.evaluate("document.activeElement.dataset.part") == "0"
    box.locator("caption", has_text=", without part 1").wait_for(timeout=60_000)
    box.screenshot(path=SCREENSHOTS / "lab-gallery.png")

    page.keyboard.press(" ")
    gone = box.get_by_role("group", name="without part 1", exact=True)
    gone.wait_for(state="detached", timeout=60_000)
    assert row_scores(box, "by cosine + S") == scores


def test_in_voila(tmp_path, maps):
    "The same page by Voila: not without the token, nothing from other machines, the same numbers."
    with voila(tmp_path) as address, browser_page() as page:
        page.goto(address)
        assert "/login" in page.url
        assert not page.locator(".diml-pair").count()
        page.goto(f"{address}/?token=abc", timeout=120_000)
        check_pair(page, maps)
        page.screenshot(path=SCREENSHOTS / "voila.png", full_page=True)
        assert not page.faults
        assert not [
            u
            for u in page.outside(address)
            if not u.startswith("https://cdn.jsdelivr.net/npm/@fortawesome/")
        ]  # two style sheets of Voila's template, which the page's own rule blocks
        assert (
            page.evaluate(
                "performance.getEntriesByType('resource').filter(r =>"
                " !r.name.startsWith(location.origin) && r.responseStatus).length"
            )
            == 0
        )


HOSTILE = "<img src=x onerror=document.title=String.fromCharCode(33)> $x^$"


def test_labels_stay_text(tmp_path, maps):
    """Labels and file names that are markup are shown, not obeyed, in every explorer; two explorers
    in one cell do not disturb each other."""
    import nbformat

    folder = copy_of_the_book(tmp_path) / "set"
    for label in (HOSTILE, "other"):
        (folder / label).mkdir(parents=True)
        for design in ("noto", "twemoji"):
            (folder / label / f"{design}{HOSTILE if label == HOSTILE else ''}.png").write_bytes(
                (
                    data_dir() / "emoji" / ("owl" if label == "other" else "key") / f"{design}.png"
                ).read_bytes()
            )
    code = f"""
from IPython.display import display
from diml_nb.datasets.registry import get_dataset
from diml_nb.viz.widgets.pair import PairExplorer
from diml_nb.viz.widgets.ranking import RetrievalExplorer
images = get_dataset({str(folder)!r})
a, b, c = images.paths[:3]
pair = PairExplorer(a, b, labels=({HOSTILE!r}, 'b'))
display(pair, PairExplorer(a, c, grid=4), RetrievalExplorer(images))
"""
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(code)],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
        ),
        tmp_path / "nbs" / "hostile.ipynb",
    )
    with lab(tmp_path) as address, browser_page() as page:
        run_in_lab(page, address, "hostile.ipynb")
        page.locator(".RetrievalExplorer .diml-item").first.wait_for(timeout=30_000)
        assert page.get_by_text(HOSTILE).count() >= 3
        assert page.locator('img[src="x"]').count() == 0
        assert page.title() != "!"
        first, second = page.locator(".diml-pair").nth(0), page.locator(".diml-pair").nth(1)
        assert first.locator("rect.diml-cell").count() == 98
        assert second.locator("rect.diml-cell").count() == 32
        untouched = second.get_attribute("data-version")
        first.locator('rect.diml-cell[data-side="a"][data-n="24"]').click()
        assert first.locator('.diml-part[aria-pressed="true"]').count() == 1
        assert second.locator('.diml-part[aria-pressed="true"]').count() == 0
        assert second.get_attribute("data-version") == untouched
