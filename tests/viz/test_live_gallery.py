"""A gallery in a page without Python, in a browser: by mouse, by keyboard, as it is read out."""

import json
import re
from dataclasses import replace

import pytest
import torch
from pages import page_payload, settle
from servers import CHROMIUM, NO_CHROMIUM

from diml_nb.datasets.registry import get_dataset
from diml_nb.viz.html import page_html
from diml_nb.viz.widgets.ranking import RetrievalExplorer

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)


@pytest.fixture(scope="module")
def gallery():
    images = get_dataset("emoji").subset("test").select(torch.arange(40))
    return RetrievalExplorer(images, grid=4, top_k=10)


@pytest.fixture(scope="module")
def text(gallery):
    return page_html("Drawings", gallery.live_html("<p>a picture</p>"))


@pytest.fixture
def opened(visit, text):
    page = visit(text)
    page.locator(".diml-item").first.wait_for()
    return page


def scores(page, title):
    "Scores of the candidates in a row, by their names and in order."
    group = page.get_by_role("group", name=title, exact=True)
    labels = group.locator("button").evaluate_all("all => all.map(e => e.ariaLabel)")
    found = [re.search(r": (.*), (?:right|wrong), score (-?[\d.]+)", label) for label in labels]
    return {name: float(score) for name, score in (match.groups() for match in found)}


def expected(gallery, row):
    return {item["label"]: item["score"] for item in gallery.view.lists["rows"][row]["items"]}


def choose(page, name, text):
    page.locator(f'[data-control="{name}"]').first.select_option(label=text)
    settle(page)


def test_lists_follow_query_eps_weights_and_plan(opened, gallery):
    label = dict((n, text) for text, n in gallery.controls["query"].options)[7]
    choose(opened, "query", label)
    choose(opened, "marginals", "the same x length²")
    choose(opened, "plan", "best cell")
    eps = opened.locator('[data-control="eps"]').first
    eps.focus()
    for _ in range(6):
        opened.keyboard.press("ArrowLeft")
    settle(opened)
    rule = dict(marginals="cross_correlation_norm2", plan="best_cell")
    gallery.state = rule | dict(query=7, eps=10 ** float(eps.input_value()))
    assert scores(opened, "by cosine") == pytest.approx(expected(gallery, 0), abs=1e-4)
    assert scores(opened, "by cosine + S") == pytest.approx(expected(gallery, 1), abs=1e-4)
    assert "press 'rank all again'" in opened.locator(".diml-judged").inner_text()
    opened.get_by_role("button", name="rank all again").click()
    gallery.rank_again()
    counts = gallery.view.lists["says"].partition("Of all ")[2]
    opened.get_by_text(counts).wait_for()
    # the pair is matched as the gallery is
    assert opened.locator('[data-control="plan"]').nth(1).input_value() == "2"
    shown = gallery.pair.match.similarity_b.item()
    assert f"S = {shown:.4f}" in opened.locator(".diml-score").inner_text()


def test_a_click_opens_the_pair_and_another_compares(opened, gallery):
    row = opened.get_by_role("group", name="by cosine + S", exact=True)
    row.get_by_role("button").nth(2).click()
    opened.get_by_label("a click compares with the chosen candidate").check()
    row.get_by_role("button").nth(0).click()
    settle(opened)
    after = list(scores(opened, "by cosine + S").items())
    table = opened.get_by_role("table").first
    assert f"Why {after[2][0]} stands below {after[0][0]}" in table.inner_text()
    numbers = [
        [float(x) for x in re.findall(r"[+-]?\d+\.\d+", text)]
        for text in table.locator("tbody tr").all_inner_texts()
    ]
    *terms, total = torch.tensor(numbers)
    assert torch.allclose(torch.stack(terms).sum(0), total, atol=4e-4)
    assert total[:2].tolist() == pytest.approx([after[2][1], after[0][1]], abs=1e-4)
    assert opened.locator(".diml-label.diml-b").inner_text().strip() == after[2][0]


def test_by_the_keyboard_alone(opened):
    "Choose, compare, drop a part and take it back: the focus stays where it was."
    button = opened.get_by_role("group", name="by cosine + S").get_by_role("button").nth(1)
    button.focus()
    opened.keyboard.press("Enter")
    settle(opened)
    opened.keyboard.press("Tab")
    opened.keyboard.press("c")
    settle(opened)
    assert opened.get_by_role("table").first.locator("caption").inner_text().startswith("Why ")
    before = scores(opened, "by cosine + S")
    part = opened.get_by_role("checkbox", name=re.compile("^1 part 1, adds|^part 1, adds")).first
    part.focus()
    opened.keyboard.press(" ")
    settle(opened)
    without = scores(opened, "without part 1")
    assert list(without.values()) == sorted(without.values(), reverse=True)
    assert opened.evaluate("document.activeElement.dataset.part") == "0"
    assert "Without part 1: average precision" in opened.locator(".diml-judged").inner_text()
    opened.keyboard.press(" ")
    settle(opened)
    assert opened.get_by_role("group", name="without part 1").count() == 0
    assert scores(opened, "by cosine + S") == before
    opened.get_by_label("the same difference, cell by cell").focus()
    opened.keyboard.press(" ")
    settle(opened)
    opened.get_by_role("img", name=re.compile(r"less .*: score .* = cosine .*, cells")).wait_for()
    assert opened.evaluate("'byCells' in document.activeElement.dataset")
    opened.get_by_role("button", name="rank all again").focus()
    opened.keyboard.press("Enter")
    opened.wait_for_function(
        "() => document.querySelector('.diml-rank').getAttribute('aria-disabled') === 'false'"
    )
    assert opened.evaluate("document.activeElement.className") == "diml-rank"


@pytest.mark.parametrize("key", ["Control+c", "Meta+c", "Alt+c"])
def test_a_copy_compares_nothing(opened, key):
    opened.get_by_role("group", name="by cosine + S").get_by_role("button").nth(1).focus()
    opened.keyboard.press(key)
    settle(opened)
    assert opened.locator(".diml-why-table").count() == 0


def test_another_query_after_ranking_has_all_its_parts(visit, gallery):
    "A query that the page takes for one that is helped, until all are ranked again."
    gallery.state = dict(show="all", eps=0.05, marginals="cross_correlation", plan="transport")
    gallery.rank_again()
    gains = gallery.ranked.gain_q.tolist()
    q = next(q for q, _ in enumerate(gains) if gains[q] <= 0 and has_parts(gallery, q))
    other = next(p for p, gain in enumerate(gains) if gain > 0 and has_parts(gallery, p))
    assert q < other
    piece = gallery.live_html("")
    held = page_payload(piece)
    held["gains"]["values"] = [float(n == q) for n in range(len(gains))]
    known = re.escape('<script type="application/json">') + ".*?</script>"
    put = f'<script type="application/json">{json.dumps(held)}</script>'
    page = visit(page_html("Drawings", re.sub(known, lambda _: put, piece, flags=re.S)))
    choose(page, "show", "helped")
    page.get_by_role("checkbox", name=re.compile("part 1, adds")).first.check()
    settle(page)
    assert page.get_by_role("group", name="without part 1").count() == 1
    page.get_by_role("button", name="rank all again").click()
    page.get_by_role("button", name="rank all again", disabled=False).wait_for()
    settle(page)
    assert page.locator('[data-control="query"] option').count() == sum(x > 0 for x in gains)
    assert page.get_by_role("group", name="without part 1").count() == 0


def has_parts(gallery, q):
    gallery.state = dict(query=q)
    return gallery.found.has_parts


def test_ranking_that_fails_gives_its_button_back(browser, text, tmp_path):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.evaluate(
        """() => {
        let asked = 0;
        performance.now = () => {
          if (asked++ > 2) throw new Error("broken clock");
          return 1e6 * asked;
        };
        }"""
    )
    with page.expect_event("pageerror") as error:
        page.get_by_role("button", name="rank all again").click()
    assert "broken clock" in str(error.value)
    assert page.get_by_role("button", name="rank all again").is_enabled()
    page.close()


def test_only_queries_that_were_helped(opened, gallery):
    menu = opened.locator('[data-control="query"]')
    everything = menu.locator("option").count()
    choose(opened, "show", "helped")
    gallery.state = dict(show="all", eps=0.05, marginals="cross_correlation", plan="transport")
    gallery.rank_again()
    helped = int((gallery.ranked.gain_q > 0).sum())
    assert menu.locator("option").count() == helped < everything
    choose(opened, "show", "all")
    assert menu.locator("option").count() == everything


def test_what_a_screen_reader_says(opened):
    tree = opened.locator("main").aria_snapshot()
    for part in (
        'group "controls"',
        'combobox "query"',
        'slider "eps',
        'group "by cosine + S"',
        'checkbox "a click compares with the chosen candidate"',
        'group "drop parts of the query"',
        'img "the query in',
    ):
        assert part in tree, tree[:3000]
    assert re.search(r'button "place 1: .*, (right|wrong), score [\d.]+, moved by -?\d+"', tree)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(visit, text, scheme):
    page = visit(text, viewport=dict(width=390, height=844), color_scheme=scheme)
    page.locator(".diml-item").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_role("heading", level=1).text_content() == "Drawings"
    targets = page.locator("button, select, input:not([type=checkbox]), .diml-compares")
    sizes = targets.evaluate_all("all => all.map(x => x.getBoundingClientRect().height)")
    assert min(size for size in sizes if size) >= 24


def test_without_scripts_the_picture_stays(visit, text):
    page = visit(text, java_script_enabled=False)
    assert page.get_by_text("a picture").is_visible()


def test_names_stay_text(visit, gallery):
    hostile = "</script><img src=x onerror=\"document.title='broken'\">"
    images = gallery.ranked.images
    images = replace(images, classes=(hostile, *images.classes[1:]))
    own = RetrievalExplorer(images.select(torch.arange(12)), grid=4, top_k=4)
    page = visit(page_html("Drawings", own.live_html("")))
    page.locator(".diml-item").nth(1).click(modifiers=["Shift"])
    settle(page)
    assert hostile in page.locator('[data-control="query"]').inner_text()
    assert hostile in page.locator(".diml-ranking").inner_text()
    assert page.locator('img[src="x"]').count() == 0
    assert page.title() == "Drawings"
