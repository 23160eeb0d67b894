"""The view in a real browser: its numbers are those of `match`, its hands work, its labels stay
labels."""

import csv
import json

import pytest
import torch
from PIL import Image
from servers import CHROMIUM, NO_CHROMIUM

from diml_nb.features.grid import grid_features
from diml_nb.ot.matching import match
from diml_nb.viz.html import VIEW_CSS, VIEW_JS, export_html, images_payload, pair_payload
from diml_nb.viz.widgets.pair import DEFAULT_VIEW

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
IMAGES = [Image.new("RGB", (224, 224), color) for color in ("seagreen", "goldenrod")]
SIDE = 7


@pytest.fixture(scope="module")
def m():
    maps = torch.rand(2, 8, 14, 14, generator=torch.Generator().manual_seed(3)) - 0.2
    return match(grid_features(maps[:1], grid=SIDE), grid_features(maps[1:], grid=SIDE))


TWO_VIEWS = """<!doctype html><style>%s</style>
<div id="x"></div><div id="y"></div><script type="module">%s
window.changes = {x: [], y: []};
window.views = {};
for (const id of "xy") {
  views[id] = createPairView(document.getElementById(id), view => changes[id].push(view));
}
</script>"""


@pytest.fixture
def two(visit, m):
    "Two live views in one page, each of its own pair, whose owners only listen."
    page = visit(TWO_VIEWS % (VIEW_CSS, VIEW_JS))
    swapped = m._replace(
        cosine_bnm=m.cosine_bnm.mT.contiguous(),
        plan_bnm=m.plan_bnm.mT.contiguous(),
        mass_a_bn=m.mass_b_bm,
        mass_b_bm=m.mass_a_bn,
    )
    for name, pair in (("x", m), ("y", swapped)):
        update = dict(pictures=images_payload(*IMAGES), data=pair_payload(pair, live=True))
        update["view"] = dict(mode="flows")
        page.evaluate("([id, update]) => views[id].update(update)", [name, update])
    return page


@pytest.fixture
def by_flows(visit):
    "Open a saved page and ask for its flows: it shows parts first."

    def open_flows(text, **options):
        page = visit(text, **options)
        page.get_by_role("button", name="flows", exact=True).click()
        return page

    return open_flows


def name(side, n):
    return f"{side.upper()} {n // SIDE + 1},{n % SIDE + 1}"


def sentence(m, side, n):
    "What the page must say of a cell, from the tensors alone."
    contribution = m.contribution_bnm[0] if side == "a" else m.contribution_bnm[0].T
    plan, mass = (
        (m.plan_bnm[0], m.mass_a_bn[0]) if side == "a" else (m.plan_bnm[0].T, m.mass_b_bm[0])
    )
    k, S = contribution[n].argmax().item(), m.similarity_b[0].item()
    way = f"goes to {name('b', k)}" if side == "a" else f"comes from {name('a', k)}"
    return (
        f"cell {name(side, n)} (row, column): mass {mass[n].item():.4f},"
        f" {(plan[n, k] / mass[n]).item():.0%} of it {way}; adds {contribution[n, k].item():.4f} to"
        f" S = {S:.4f} ({contribution[n, k].item() / S:.1%})"
    )


def cell(page, side, n):
    return page.locator(f'.diml-cell[data-side="{side}"][data-n="{n}"]')


def says(page):
    return page.locator(".diml-says").first.text_content()


def drawn(page, selector=""):
    return {
        (int(n), int(k))
        for n, k in page.eval_on_selector_all(
            f"{selector} .diml-flow", "all => all.map(x => [x.dataset.n, x.dataset.m])"
        )
    }


def top(contribution_nm, count=12):
    return {divmod(i, SIDE**2) for i in contribution_nm.flatten().topk(count).indices.tolist()}


def column(page, k):
    return [
        float(x.rstrip("%"))
        for x in page.eval_on_selector_all(
            f".diml-table tbody td:nth-child({k})", "all => all.map(x => x.textContent)"
        )
    ]


def test_the_page_shows_the_score_and_the_strongest_flows(by_flows, m, tmp_path):
    page = by_flows(export_html(*IMAGES, m, tmp_path / "saved.html"))
    assert f"{m.similarity_b.item():.4f}" in page.locator(".diml-score").text_content()
    assert drawn(page) == top(m.contribution_bnm[0])
    assert page.locator(".diml-cell").count() == 98
    widest = max(
        float(x)
        for x in page.eval_on_selector_all(
            ".diml-flow", "all => all.map(x => x.getAttribute('stroke-width'))"
        )
    )
    flows = list(drawn(page))
    assert widest == pytest.approx(
        7 * max(m.plan_bnm[0, n, k].item() for n, k in flows) / m.plan_bnm.max().item(), abs=1e-5
    )
    assert (tmp_path / "saved.html").read_text(encoding="utf-8") == export_html(*IMAGES, m)


@pytest.mark.parametrize("side, n", [("a", 0), ("a", 24), ("b", 48), ("b", 10)])
def test_pointing_says_the_numbers_of_match(by_flows, m, side, n):
    page = by_flows(export_html(*IMAGES, m))
    before = says(page)
    cell(page, side, n).hover()
    assert says(page) == sentence(m, side, n) != before
    row = torch.zeros_like(m.contribution_bnm[0]) - 1
    if side == "a":
        row[n] = m.contribution_bnm[0][n]
    else:
        row[:, n] = m.contribution_bnm[0][:, n]
    assert drawn(page, ".diml-lit") == top(row)
    assert drawn(page, ".diml-faded") == top(m.contribution_bnm[0]) - top(row)
    assert page.locator(".diml-crop figcaption").all_text_contents().count(name(side, n)) == 1
    page.mouse.move(2, 2)
    assert says(page) == before
    assert not drawn(page, ".diml-faded")


def test_a_click_locks_and_escape_unlocks(by_flows, m):
    page = by_flows(export_html(*IMAGES, m))
    cell(page, "a", 17).click()
    cell(page, "b", 3).hover()
    assert says(page) == sentence(m, "a", 17)
    assert cell(page, "a", 17).get_attribute("aria-selected") == "true"
    assert page.locator(".diml-locked").count() == 1
    assert "Escape" in page.locator(".diml-state").text_content()
    assert (
        page.locator(".diml-table tbody tr").first.locator("td").first.text_content()
        == name("a", 17)[2:]
    )
    page.keyboard.press("Escape")
    assert says(page) == sentence(m, "b", 3)
    assert page.locator(".diml-locked").count() == 0
    for _ in range(2):
        cell(page, "a", 17).click()
    page.mouse.move(2, 2)
    assert says(page).startswith("strongest flow")


def test_each_picture_is_one_stop_of_the_tab_key_and_arrows_move_inside(by_flows, m):
    page = by_flows(export_html(*IMAGES, m))

    def focus():
        return page.evaluate(
            "[document.activeElement.dataset.side, +document.activeElement.dataset.n]"
        )

    n, k = divmod(m.contribution_bnm[0].argmax().item(), SIDE**2)
    page.keyboard.press("Tab")
    assert focus() == ["a", n]
    assert says(page) == sentence(m, "a", n)
    page.keyboard.press("Tab")
    assert focus() == ["b", k]
    for key, move in (
        ("Home", -(k % SIDE)),
        ("ArrowRight", 1),
        ("ArrowDown", SIDE if k // SIDE < SIDE - 1 else 0),
        ("ArrowUp", -SIDE),
        ("ArrowLeft", -1),
        ("ArrowLeft", 0),
    ):
        if k + move >= 0:
            k += move
        page.keyboard.press(key)
        assert focus() == ["b", k], key
        assert says(page) == sentence(m, "b", k), key
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator(".diml-locked").count() == 1
    assert focus() == ["b", k]
    assert page.locator('.diml-cell[tabindex="0"]').count() == 2
    assert (
        cell(page, "b", k).get_attribute("aria-label")
        == sentence(m, "b", k).replace("cell ", "").replace(" (row, column)", "").split(";")[0]
    )


@pytest.mark.parametrize("key", ["mass", "cosine", "contribution"])
def test_the_table_sorts_and_adds_up(by_flows, m, key):
    page = by_flows(export_html(*IMAGES, m))
    value = {"mass": m.plan_bnm, "cosine": m.cosine_bnm, "contribution": m.contribution_bnm}[key][0]
    flows = sorted(top(m.contribution_bnm[0]), key=lambda f: -value[f])
    page.get_by_role("button", name=key, exact=True).click()
    assert column(page, {"mass": 3, "cosine": 4, "contribution": 5}[key]) == [
        round(value[f].item(), 4) for f in flows
    ]
    shares = torch.tensor([m.contribution_bnm[0][f] for f in flows]).cumsum(0) / m.similarity_b
    assert column(page, 6) == pytest.approx([100 * x for x in shares.tolist()], abs=0.051)
    assert (
        page.eval_on_selector_all(
            "th", "all => all.map(x => x.getAttribute('aria-sort')).filter(x => x)"
        ).count("descending")
        == 1
    )
    assert page.evaluate("document.activeElement.textContent") == key
    page.locator(".diml-table tbody tr").nth(4).hover()
    assert drawn(page, ".diml-lit") == {flows[4]}
    assert says(page).startswith(f"{name('a', flows[4][0])} \u2192 {name('b', flows[4][1])}: ")


def test_the_waterfall_ends_at_the_score(by_flows, m):
    page = by_flows(export_html(*IMAGES, m))
    numbers = page.locator(".diml-waterfall span").all_text_contents()
    labels, values = numbers[::2], [float(x) for x in numbers[1::2]]
    assert len(values) == 15
    assert labels[-1] == "score = cosine + S"
    assert labels[-2] == "the other 2,389 flows"
    score = (m.global_cosine_b + m.similarity_b).item()
    assert values[-1] == pytest.approx(score, abs=6e-5)
    assert sum(values[:-1]) == pytest.approx(score, abs=14 * 6e-5)
    assert float(page.locator(".diml-check").text_content().split()[-1]) < 1e-6
    *_, (x, width), last = page.eval_on_selector_all(
        ".diml-waterfall rect",
        "all => all.map(r => ['x', 'width'].map(k => parseFloat(r.getAttribute(k))))",
    )
    assert x + width == pytest.approx(sum(last), abs=1e-3)


def test_labels_stay_labels(visit, m):
    hostile = (
        "<img src=x"
        " onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>"
    )
    page = visit(
        export_html(
            *IMAGES,
            m,
            labels=(hostile, "B"),
            title=hostile,
            notes=[hostile],
            other_scores=[(hostile, 0.5)],
        )
    )
    page.wait_for_timeout(100)
    assert page.title() == hostile
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert (
        page.locator(".diml-label.diml-a").text_content()
        == hostile
        == page.locator(".diml-notes p").text_content()
    )
    assert hostile in page.locator(".diml-beside").text_content()


def test_two_views_do_not_interfere(two, m):
    x, y = two.locator("#x"), two.locator("#y")
    cell(x, "a", 9).click()
    assert says(x) == sentence(m, "a", 9)
    assert says(y).startswith("strongest flow")
    x.get_by_role("button", name="mass", exact=True).click()
    x.get_by_text("show masses").click()
    cell(y, "b", 9).click()
    assert says(y) == sentence(m, "a", 9).replace("goes to B", "comes from A").replace(
        "cell A", "cell B"
    )
    changes = two.evaluate("changes")
    by_flows = DEFAULT_VIEW | {"mode": "flows"}
    assert changes["y"] == [by_flows | {"locked": ["b", 9]}]
    assert changes["x"][-1] == by_flows | {"locked": ["a", 9], "overlay": True, "sort": "mass"}
    assert len(changes["x"]) == 3
    assert y.get_by_text("show masses").get_attribute("aria-pressed") == "false"
    veil_n = [
        float(c.get_attribute("fill-opacity")) for c in x.locator('.diml-cell[data-side="a"]').all()
    ]
    assert veil_n == pytest.approx(
        (0.75 * (1 - m.mass_a_bn[0] / m.mass_a_bn[0].max())).tolist(), abs=1e-5
    )
    assert two.evaluate(
        "[typeof createPairView, document.querySelectorAll('#x [id], #y [id]').length]"
    ) == ["undefined", 0]


def test_dropping_is_told_only_where_somebody_computes(two, by_flows, m):
    x = two.locator("#x")
    cell(x, "a", 30).focus()
    for key in ("x", "ArrowLeft", "Delete"):
        two.keyboard.press(key)
    cell(x, "b", 5).click(modifiers=["Shift"])
    cell(x, "a", 30).click(modifiers=["Shift"])
    changes = two.evaluate("changes.x.map(view => [view.dropped_a, view.dropped_b])")
    assert changes == [[[30], []], [[29, 30], []], [[29, 30], [5]], [[29], [5]]]
    assert x.locator(".diml-cross").count() == 2
    assert cell(x, "a", 29).get_attribute("aria-label").endswith("dropped")
    page = by_flows(export_html(*IMAGES, m))
    cell(page, "a", 30).focus()
    page.keyboard.press("x")
    assert page.locator(".diml-cross").count() == 0
    assert "drop" not in page.locator(".diml-hint").text_content()


def test_an_update_keeps_focus_and_lock(two, m):
    x = two.locator("#x")
    cell(x, "a", 11).focus()
    two.keyboard.press("Enter")
    product = m._replace(plan_bnm=m.mass_a_bn.unsqueeze(2) * m.mass_b_bm.unsqueeze(1))
    product = product._replace(similarity_b=product.contribution_bnm.sum((1, 2)))
    two.evaluate("data => views.x.update({data})", pair_payload(product))
    assert says(x) == sentence(product, "a", 11)
    assert two.evaluate("document.activeElement.dataset.n") == "11"
    version = int(x.get_attribute("data-version"))
    two.evaluate("views.x.update({view: {locked: ['b', 2]}})")
    assert says(x) == sentence(product, "b", 2)
    assert int(x.get_attribute("data-version")) > version
    assert len(two.evaluate("changes.x")) == 1
    coarse = match(*(grid_features(torch.rand(1, 8, 4, 4), grid=2) for _ in "ab"))
    two.evaluate(
        "data => { views.x.update({view: {locked: ['b', 30]}}); views.x.update({data}); }",
        pair_payload(coarse),
    )
    assert x.locator(".diml-cell").count() == 8
    assert x.locator(".diml-locked").count() == 0


def test_letters_can_be_read_in_light_and_dark(visit, m):
    def contrast(page, selector):
        ink, paper = (
            [
                int(v) / 255
                for v in (
                    page.eval_on_selector(where, f"x => getComputedStyle(x).{what}")
                    .strip("rgb()")
                    .split(",")
                )
            ]
            for where, what in ((selector, "color"), (".diml-pair", "backgroundColor"))
        )
        light = [
            sum(
                w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
                for w, v in zip((0.2126, 0.7152, 0.0722), c)
            )
            for c in (ink, paper)
        ]
        return (max(light) + 0.05) / (min(light) + 0.05), light[1]

    papers = []
    for scheme in ("light", "dark"):
        page = visit(
            export_html(*IMAGES, m), color_scheme=scheme, viewport={"width": 500, "height": 800}
        )
        for selector in (
            ".diml-says",
            ".diml-hint",
            ".diml-table td",
            ".diml-check",
            ".diml-by_flows",
            ".diml-part",
            ".diml-rest",
            ".diml-part_sum",
        ):
            ratio, paper = contrast(page, selector)
            assert ratio > 4.5, (scheme, selector)
        papers.append(paper)
        assert page.evaluate("document.documentElement.scrollWidth <= 500")
        sizes = page.eval_on_selector_all(
            ".diml-pair *",
            "all => all.filter(x => x.textContent.trim()).map(x =>"
            " parseFloat(getComputedStyle(x).fontSize))",
        )
        assert min(sizes) >= 12
    assert papers[0] > 0.9
    assert papers[1] < 0.05


def test_the_table_leaves_as_csv(by_flows, m):
    page = by_flows(export_html(*IMAGES, m))
    cell(page, "b", 20).click()
    with page.expect_download() as download:
        page.get_by_text("download CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(rows) == 12
    assert {int(row["m"]) for row in rows} == {20}
    for row in rows:
        n = int(row["n"])
        assert [float(row[k]) for k in ("mass", "cosine", "contribution")] == [
            x[0, n, 20].item() for x in (m.plan_bnm, m.cosine_bnm, m.contribution_bnm)
        ]
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        " document.addEventListener('copy', () => { document.title = getSelection().toString(); })"
    )
    page.get_by_text("copy as CSV").click()
    page.get_by_text("copied 12 rows").wait_for()
    assert page.title().startswith("n,m,mass,cosine,contribution")
    assert page.locator("textarea").count() == 0


def test_what_went_wrong_and_what_stands_beside(by_flows, m):
    maps = torch.rand(2, 8, 7, 7)
    unfinished = match(
        grid_features(maps[:1], grid=7), grid_features(maps[1:], grid=7), eps=0.001, max_iter=1
    )
    page = by_flows(
        export_html(
            *IMAGES,
            unfinished,
            other_scores=[("plain cosine", 0.25), ("opposite", -0.125)],
            marginal_error_k=[0.5, 0.05, 0.005],
            notes=["masses were swapped"],
        )
    )
    assert "not converged" in page.locator(".diml-text").text_content()
    assert page.locator(".diml-notes").text_content() == "masses were swapped"
    assert page.locator(".diml-beside .diml-bars span").all_text_contents() == [
        "plain cosine",
        "0.2500",
        "opposite",
        "-0.1250",
    ]
    assert "5e-1 after 1 iteration, 5e-3 after 3" in page.locator(".diml-beside").text_content()
    heights = [
        float(p.split(",")[1]) for p in page.locator("polyline").get_attribute("points").split()
    ]
    assert heights == pytest.approx([2, 20, 38])


def test_without_scripts_it_still_says_something(visit, m):
    page = visit(export_html(*IMAGES, m, title="Two plates"), java_script_enabled=False)
    assert "Two plates" in page.locator("main").inner_text()
    assert f"similarity {m.similarity_b.item():.4f}" in page.locator("main").inner_text()
    assert "no structure" in page.locator("main").inner_text()
    assert json.loads(page.locator("script").first.text_content())["data"]["top"] == 12
