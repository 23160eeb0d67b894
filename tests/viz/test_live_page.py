"""A saved page that matches its pair itself: its answers are those of the explorer in Python."""

import re

import pytest
import torch
from pages import settle
from PIL import Image
from servers import CHROMIUM, NO_CHROMIUM

from diml_nb._internal.paths import data_dir
from diml_nb.features.cache import extract_feature_maps
from diml_nb.features.grid import grid_features
from diml_nb.features.images import load_image
from diml_nb.ot.matching import MatchOptions, match
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.viz.html import page_html
from diml_nb.viz.widgets.cells_page import export_cells
from diml_nb.viz.widgets.controls import default_backbone, prepare_image
from diml_nb.viz.widgets.pair import PairExplorer
from diml_nb.viz.widgets.sinkhorn import SinkhornExplorer, SmallPlanView
from diml_nb.viz.widgets.steps import StepByStep

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
PATHS = [data_dir() / "emoji" / "pineapple" / f"{design}.png" for design in ("emojione", "noto")]


@pytest.fixture(scope="module")
def pair():
    return PairExplorer(*PATHS, labels=("emojione", "noto"))


@pytest.fixture
def opened(visit, pair, tmp_path):
    "The saved page of an explorer that nobody has touched."
    pair.state = {name: x.value for name, x in PairExplorer(*PATHS).controls.items()}
    return visit(pair.save("pair.html", tmp_path).read_text(encoding="utf-8"))


def choose(page, name, text):
    page.locator(f'[data-control="{name}"]').select_option(label=text)


def press(page, name, key, times=1):
    "Move a slider by the keyboard; returns where it stands."
    slider = page.locator(f'[data-control="{name}"]')
    slider.focus()
    for _ in range(times):
        page.keyboard.press(key)
    return float(slider.input_value())


def shown(page):
    "What a page says of its pair, without the last digit of each number."
    settle(page)
    places = (".diml-score", ".diml-parts", ".diml-summary", ".diml-note", ".diml-notes")
    texts = [page.locator(place).all_text_contents() for place in (*places, ".diml-beside")]
    return re.sub(r"(\.\d+)\d", r"\1", str(texts))


def expected(visit, pair, folder):
    "The same of a page that shows the numbers of Python."
    page = visit(pair.save("python.html", folder).read_text(encoding="utf-8"))
    return shown(page)


def test_controls_answer_as_in_python(opened, visit, pair, tmp_path):
    before = shown(opened)
    choose(opened, "grid", "5")
    choose(opened, "marginals", "the same x length²")
    exponent = press(opened, "eps", "ArrowLeft", 9)
    iterations = press(opened, "max_iter", "ArrowLeft", 150)
    choices = dict(grid=5, marginals="cross_correlation_norm2")
    pair.state = choices | dict(eps=10**exponent, max_iter=int(iterations))
    assert shown(opened) == expected(visit, pair, tmp_path) != before


@pytest.mark.parametrize(
    "label, plan", [("best cell", "best_cell"), ("cheapest (no entropy)", "exact")]
)
def test_every_plan_is_there(opened, pair, label, plan):
    choose(opened, "plan", label)
    settle(opened)
    pair.state = dict(plan=plan)
    score = opened.locator(".diml-score").text_content()
    assert f"S = {pair.match.similarity_b.item():.4f}" in score
    assert f"moved by: {label}" in opened.locator(".diml-notes").text_content()


def test_a_part_is_dropped_and_taken_back(opened, visit, pair, tmp_path):
    before = shown(opened)
    opened.get_by_role("button", name="drop part 1").click()
    label = pair.view.data["parts"]["label"]
    dropped = {f"dropped_{s}": [n for n, k in enumerate(label[s]) if k == 0] for s in "ab"}
    pair.view.value = dropped
    assert shown(opened) == expected(visit, pair, tmp_path)
    opened.get_by_text(re.compile("^take back")).click()
    settle(opened)
    assert shown(opened) == before


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_the_last_part_is_dropped_until_one_is_left(opened, how):
    rows, counts = opened.locator(".diml-part-row"), []
    while (count := rows.count()) > 1:
        counts.append(count)
        drop = rows.last.get_by_role("button", name=re.compile("^drop"))
        if how == "mouse":
            drop.click()
        else:
            opened.keyboard.press("Tab")  # so that the focus is one of the keyboard
            drop.focus()
            opened.keyboard.press("x")
        settle(opened)
        assert len(counts) < 30
        crops = opened.locator(".diml-crops svg").evaluate_all("all => all.map(x => x.ariaLabel)")
        named = re.findall(r"part (\d+) in", " ".join(filter(None, crops)))
        assert named and all(int(k) <= rows.count() for k in named)
    assert len(set(counts)) > 1


def test_a_locked_part_is_free_when_the_numbers_change(opened):
    row = opened.locator(".diml-part").nth(1)
    row.click()
    opened.get_by_text("locked on part 2").wait_for()
    choose(opened, "marginals", "equal")
    settle(opened)
    assert opened.locator(".diml-state").text_content() == ""
    assert opened.locator('.diml-part[aria-pressed="true"]').count() == 0


def test_a_file_that_was_saved_is_let_go_when_another_is(opened):
    opened.evaluate(
        """() => {
        globalThis.alive = new Set();
        const { createObjectURL, revokeObjectURL } = URL;
        URL.createObjectURL = (x) => {
          const address = createObjectURL.call(URL, x);
          alive.add(address);
          return address;
        };
        URL.revokeObjectURL = (address) => {
          alive.delete(address);
          revokeObjectURL.call(URL, address);
        };
        }"""
    )
    opened.get_by_role("button", name="flows", exact=True).click()
    for _ in range(2):
        with opened.expect_download() as download:
            opened.get_by_text("download CSV").click()
        assert download.value.suggested_filename == "flows.csv"
    assert opened.evaluate("alive.size") == 1


def test_a_cell_is_dropped_by_the_keyboard(opened, pair):
    opened.get_by_role("button", name="flows", exact=True).click()
    opened.locator('.diml-cell[data-side="a"][tabindex="0"]').focus()
    opened.keyboard.press("x")
    settle(opened)
    assert opened.locator(".diml-notes").text_content().startswith("1 cell dropped: S 0.")
    choose(opened, "grid", "4")  # cells have new numbers
    settle(opened)
    assert "dropped" not in opened.locator(".diml-notes").text_content()
    assert opened.locator(".diml-cell").count() == 32


def test_a_slider_is_read_out_as_it_is_shown(opened):
    press(opened, "eps", "ArrowLeft", 3)
    slider = opened.locator('[data-control="eps"]')
    output = opened.locator(".diml-control", has=slider).locator("output")
    assert slider.get_attribute("aria-valuetext") == output.text_content() != "0.05"


def test_the_score_is_told_where_it_changes_and_not_again(opened):
    opened.get_by_role("status").get_by_text("similarity S = ").wait_for()
    opened.evaluate(
        """() => { globalThis.told = 0; new MutationObserver(() => { told += 1; })
        .observe(document.querySelector(".diml-score"), { childList: true }); }"""
    )
    opened.get_by_role("button", name="flows", exact=True).click()
    settle(opened)
    assert opened.evaluate("told") == 0
    press(opened, "eps", "ArrowLeft")
    settle(opened)
    assert opened.evaluate("told") == 1


def test_headings_are_in_order(opened):
    levels = opened.locator("h1, h2, h3, h4").evaluate_all("all => all.map(x => x.tagName)")
    assert levels == ["H1"] + ["H2"] * 4
    assert opened.get_by_role("heading", level=1).text_content() == opened.title()


@pytest.mark.parametrize("is_phone", [False, True])
def test_controls_are_high_enough_for_a_finger(visit, pair, tmp_path, is_phone):
    phone = dict(viewport=dict(width=390, height=844), has_touch=True, is_mobile=True)
    walk = StepByStep(*PATHS)
    for text in (
        pair.save("pair.html", tmp_path).read_text(encoding="utf-8"),
        page_html("Steps", walk.live_html("")),
    ):
        page = visit(text, **(phone if is_phone else {}))
        if page.get_by_role("button", name="flows", exact=True).count():
            page.get_by_role("button", name="flows", exact=True).click()
        targets = page.locator("button, select, a, label, input:not([type=checkbox])")
        sizes = targets.evaluate_all("all => all.map(x => x.getBoundingClientRect().height)")
        shown = [size for size in sizes if size]
        assert len(shown) >= 5
        assert min(shown) >= (32 if is_phone else 24)


@pytest.mark.parametrize("width", [320, 390])
def test_fingers_drop_a_part_and_a_cell(visit, pair, tmp_path, width):
    phone = dict(viewport=dict(width=width, height=844), has_touch=True, is_mobile=True)
    page = visit(pair.save("pair.html", tmp_path).read_text(encoding="utf-8"), **phone)
    page.locator(".diml-part").first.tap()
    assert page.locator(".diml-state").inner_text() == "locked on part 1: another tap unlocks"
    hint = page.locator(".diml-hint").inner_text()
    assert hint.startswith("A tap on a part locks it, another one unlocks it. A cell is")
    page.locator(".diml-part").first.tap()
    score = page.locator(".diml-score").text_content()
    # the row lies still while the finger comes down
    row = page.locator(".diml-drop").last
    row.scroll_into_view_if_needed()
    before = row.bounding_box()
    page.locator(".diml-part").last.dispatch_event("pointerover")
    assert "moves within it" in page.locator(".diml-says").text_content()
    assert row.bounding_box() == before
    row.tap()
    page.get_by_text(re.compile("^take back")).wait_for()
    settle(page)
    assert page.locator(".diml-score").text_content() != score
    page.get_by_text(re.compile("^take back")).tap()
    page.get_by_role("button", name="flows", exact=True).tap()
    assert page.get_by_text("drop this cell").is_hidden()
    page.locator('.diml-cell[data-side="b"][data-n="24"]').tap()
    page.get_by_text("drop this cell").tap()
    page.get_by_text("1 cell dropped: S 0.").wait_for()
    page.get_by_text("take this cell back").tap()
    settle(page)
    assert page.locator(".diml-score").text_content() == score


def test_menus_and_code_are_shown_whole(visit, pair, tmp_path):
    page = visit(pair.save("pair.html", tmp_path).read_text(encoding="utf-8"))
    menu = page.locator('[data-control="marginals"]')
    shown = menu.bounding_box()["width"]
    menu.evaluate("x => { x.style.maxWidth = 'none'; }")
    assert menu.bounding_box()["width"] == shown
    walk = page_html("Steps", StepByStep(*PATHS).live_html(""))
    page = visit(walk, viewport=dict(width=320, height=800))
    code = page.locator("pre")
    assert code.evaluate("x => x.scrollWidth <= x.clientWidth")


@pytest.mark.parametrize("width", [320, 1280])
def test_iterations_name_their_pictures_and_keep_a_margin(visit, width):
    steps = SinkhornExplorer(*PATHS)
    page = visit(
        page_html("Iterations", steps.live_html("")), viewport=dict(width=width, height=800)
    )
    captions = page.locator("figcaption")
    assert captions.all_text_contents() == ["A, the rows", "B, the columns"]
    for node in (captions.first, page.locator(".diml-says")):
        assert node.bounding_box()["x"] >= 12
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_an_obstacle_is_told_and_nothing_is_lost(visit, tmp_path):
    two_shapes = PairExplorer(PATHS[0], load_image(PATHS[1]).crop((0, 0, 72, 48)))
    page = visit(two_shapes.save("pair.html", tmp_path).read_text(encoding="utf-8"))
    score = page.locator(".diml-score").text_content()
    choose(page, "plan", "cells in place")
    page.get_by_role("alert").get_by_text("Cells in place need pictures of one shape").wait_for()
    assert page.locator(".diml-score").text_content() == score
    choose(page, "plan", "no matching")
    settle(page)
    assert page.get_by_role("alert").text_content() == ""
    assert page.locator(".diml-score").text_content() != score


def test_names_stay_text(visit, tmp_path):
    hostile = "</script><img src=x onerror=\"document.title='broken'\">"
    pair = PairExplorer(*PATHS, labels=(hostile, "noto"))
    page = visit(pair.save("pair.html", tmp_path).read_text(encoding="utf-8"))
    press(page, "eps", "ArrowLeft")
    settle(page)
    assert page.locator(".diml-label.diml-a").text_content() == hostile
    assert page.locator("img").count() == 0
    assert page.title() == "Matching flow"


def test_iterations_are_computed_in_the_page(visit):
    steps = SinkhornExplorer(*PATHS)
    page = visit(page_html("Iterations", steps.live_html("<p>no scripts</p>")))
    choose(page, "grid", "4")
    exponent = press(page, "eps", "ArrowLeft", 5)
    assert press(page, "iteration", "ArrowRight", 6) == 7
    settle(page)
    steps.state = dict(grid=4, eps=10**exponent, iteration=7)
    says = page.locator(".diml-says").text_content()
    mantissa, power = f"{steps.trace.marginal_error_k[6]:.2e}".split("e")
    assert f"L1 error of the columns is {mantissa}e{int(power)};" in says
    assert f"brightest: {steps.trace.plan_knm.max():.4f}." in says
    assert page.locator(".diml-plan [data-n]").count() == 256


def test_without_scripts_the_picture_stays(visit):
    steps = SinkhornExplorer(*PATHS)
    page = visit(
        page_html("Iterations", steps.live_html("<p>a picture</p>")), java_script_enabled=False
    )
    assert page.get_by_text("a picture").is_visible()


def test_a_small_plan_moves_with_eps(visit, monkeypatch):
    monkeypatch.setenv("DIML_WITHOUT_KERNEL", "1")
    cost_nm, a_n = torch.tensor([[0.1, 0.9], [0.8, 0.3]]), torch.tensor([0.7, 0.3])
    b_m = torch.tensor([0.4, 0.6])
    piece = SmallPlanView(cost_nm, a_n, b_m)._repr_mimebundle_()["text/html"]
    page = visit(page_html("Small", piece))
    eps = 10 ** press(page, "eps", "ArrowRight", 7)
    settle(page)
    plan_bnm = sinkhorn(cost_nm[None], a_n[None], b_m[None], eps=eps, tol=1e-6).plan_bnm
    label = page.locator("svg").first.get_attribute("aria-label")
    shown_plan = [float(x) for x in re.findall(r"\d\.\d+", label)]
    assert shown_plan == pytest.approx(plan_bnm.flatten().tolist(), abs=1e-4)


def test_steps_ask_and_answer_as_in_python(visit):
    walk = StepByStep(*PATHS)
    page = visit(page_html("Steps", walk.live_html("<p>a picture</p>")))
    assert press(page, "step", "ArrowRight", 3) == 4
    assert page.locator("pre").text_content() == walk.steps[3].code
    assert page.locator("img").get_attribute("alt") == "the picture of the step unit cells"
    page.get_by_label("your guess").fill("0.5")
    page.get_by_label("show the answer").check()
    assert (
        page.locator(".diml-says").text_content() == f"{walk.steps[3].answer:,.4g}. You said 0.5."
    )
    assert page.locator("img").get_attribute("alt") == "the picture of the step cost"
    page.get_by_label("your guess").fill("")
    assert page.locator(".diml-says").text_content() == f"{walk.steps[3].answer:,.4g}."
    page.get_by_role("button", name="next step").click()
    assert page.locator(".diml-says").text_content() == ""
    assert not page.get_by_label("show the answer").is_checked()
    assert "5. marginals" in page.locator("h3").text_content()  # as in a notebook
    page.get_by_label("your guess").fill("2000000")
    page.get_by_label("show the answer").check()
    walk.state = dict(step=5, guess=2_000_000.0, revealed=True)
    said = page.locator(".diml-says").text_content()
    assert said.endswith("You said 2,000,000.") and said in walk.verdict.value


def test_a_page_of_cells_refuses_in_the_words_of_match():
    x, y = (grid_features(torch.rand(1, 8, 4, 4), grid=grid) for grid in (4, (2, 4)))
    picture = Image.new("RGB", (56, 56))
    with pytest.raises(ValueError, match="plan: 'aligned' .* expects equal grids"):
        export_cells((picture, picture), x, y, options=MatchOptions(plan="aligned"))


def test_cells_are_matched_again_without_maps(visit, tmp_path):
    "The page of a hit, or of two files on the command line."
    x = grid_features(extract_feature_maps(PATHS, default_backbone()).float(), grid=7)
    options = MatchOptions(marginals="cross_correlation_norm2")
    pictures = tuple(prepare_image(path).image for path in PATHS)
    page = visit(export_cells(pictures, x[0], x[1], options=options))
    begins = shown(page)
    exponent = press(page, "eps", "ArrowLeft", 4)
    choose(page, "marginals", "equal")
    settle(page)
    result = match(x[0], x[1], marginals="uniform", eps=10**exponent)
    assert f"S = {result.similarity_b.item():.4f}" in page.locator(".diml-score").text_content()
    press(page, "eps", "ArrowRight", 4)
    choose(page, "marginals", "the same x length²")
    assert shown(page) == begins  # the page's own numbers are those that Python wrote
