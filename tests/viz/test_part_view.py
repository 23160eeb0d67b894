"""A pair by its parts in a real browser: the numbers are those of `parts`, a part answers to the
mouse, to the keyboard and to a screen reader."""

import pytest
import torch
from PIL import Image
from servers import CHROMIUM, NO_CHROMIUM

from diml_nb.explain.parts import part_face, parts
from diml_nb.features.grid import grid_features
from diml_nb.ot.matching import match
from diml_nb.viz.html import VIEW_CSS, VIEW_JS, export_html, images_payload, pair_payload
from diml_nb.viz.part_figures import PART_COLORS

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
IMAGES = [Image.new("RGB", (224, 224), color) for color in ("seagreen", "goldenrod")]
SIDE = 6


def bands(count):
    "A matched pair of so many bands of rows; in B they stand the other way round."
    generator = torch.Generator().manual_seed(3)
    band_hw = torch.arange(count).repeat_interleave(SIDE // count)[:, None].expand(SIDE, SIDE)
    kinds_chw = torch.nn.functional.one_hot(band_hw, count).permute(2, 0, 1).float()
    maps = torch.stack([kinds_chw, kinds_chw.flip(1)])
    maps = maps + 0.3 * torch.rand(maps.shape, generator=generator)
    return match(grid_features(maps[:1], grid=SIDE), grid_features(maps[1:], grid=SIDE))


@pytest.fixture(scope="module")
def m():
    return bands(3)


@pytest.fixture(scope="module")
def found(m):
    found = parts(m)
    assert len(found.contribution_k) == 3
    return found


def row(page, k):
    return page.locator(".diml-part").nth(k)


def says(page):
    return page.locator(".diml-says").text_content()


def drawn(page):
    return {
        (int(n), int(k))
        for n, k in page.eval_on_selector_all(
            ".diml-flow", "all => all.map(x => [x.dataset.n, x.dataset.m])"
        )
    }


def strongest_flows(m, found, k, count=12):
    "The largest contributions within a part, from the tensors alone."
    within_nm = (found.label_a_n == k)[:, None] & (found.label_b_m == k)
    value_nm = torch.where(within_nm, m.contribution_bnm[0], -1)
    return {divmod(i, SIDE**2) for i in value_nm.flatten().topk(count).indices.tolist()}


def sentence(found, k):
    cells = [int((label == k).sum()) for label in (found.label_a_n, found.label_b_m)]
    adds = found.contribution_k[k].item()
    return (
        f"part {k + 1}: {cells[0]} cells of A (mass {found.mass_a_k[k]:.4f}) and {cells[1]} cells"
        f" of B (mass {found.mass_b_k[k]:.4f}); mass {found.mass_k[k]:.4f} moves within it, mean"
        f" cosine {found.cosine_k[k]:.4f}; adds {adds:.4f} to S = {found.similarity:.4f}"
        f" ({adds / found.similarity:.1%})"
    )


def test_parts_are_shown_first_and_add_up(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    assert page.locator(".diml-table").is_hidden()
    assert not drawn(page)
    numbers = [float(x) for x in page.locator(".diml-part b").all_text_contents()]
    assert numbers == pytest.approx(found.contribution_k.tolist(), abs=6e-5)
    assert numbers == sorted(numbers, reverse=True)
    rest = float(page.locator(".diml-rest").text_content().split()[0])
    assert rest == pytest.approx(found.rest, abs=6e-5)
    assert sum(numbers) + rest == pytest.approx(m.similarity_b.item(), abs=4 * 6e-5)
    line = page.locator(".diml-part_sum").text_content()
    assert f"= {m.similarity_b.item():.4f} = S" in line
    assert float(line.split()[-1]) < 1e-6
    widths = page.eval_on_selector_all(
        ".diml-bar", "all => all.map(x => x.getBoundingClientRect().width)"
    )
    longest = found.contribution_k.max().item()
    wanted = [*(found.contribution_k / longest).tolist(), found.rest / longest]
    assert [width / widths[0] for width in widths] == pytest.approx(wanted, abs=0.02)
    assert found.summary in says(page)
    assert "within 3 parts" in found.summary
    assert says(page).endswith(f"{found.chance:.0%}")


def test_each_cell_has_the_colour_of_its_part(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    for side, label in (("a", found.label_a_n), ("b", found.label_b_m)):
        styles = page.eval_on_selector_all(
            f'.diml-cell[data-side="{side}"]',
            "all => all.map(x => x.style.getPropertyValue('--tint'))",
        )
        assert styles == [PART_COLORS[k] for k in label.tolist()]
    numbers = page.locator(".diml-stage .diml-part-number text").all_text_contents()
    assert sorted(numbers) == ["1", "1", "2", "2", "3", "3"]
    labels = page.locator('.diml-cell[data-side="b"]').evaluate_all(
        "all => all.map(e => e.ariaLabel)"
    )
    assert labels[7] == f"B 2,2: part {found.label_b_m[7] + 1}"


def test_a_row_shows_the_faces_of_its_part(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    face = part_face(found.label_b_m, found.strength_b_m, found.grid_b, 1)
    box = [float(x) for x in row(page, 1).locator("svg").nth(1).get_attribute("viewBox").split()]
    left, top, right, bottom = (230 * x for x in face)
    assert box == pytest.approx([334 + left, top, right - left, bottom - top], abs=1e-3)
    assert (
        row(page, 1).locator("image").nth(1).get_attribute("href")
        == images_payload(*IMAGES)["b"]["src"]
    )


def test_pointing_at_a_part_says_its_numbers_and_draws_its_flows(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    before = says(page)
    row(page, 1).hover()
    assert says(page) == sentence(found, 1) != before
    assert drawn(page) == strongest_flows(m, found, 1)
    assert page.locator(".diml-veil").count() == 2
    assert page.locator(".diml-pale").count() == 4
    page.locator('.diml-cell[data-side="a"][data-n="0"]').hover()
    assert says(page) == sentence(found, int(found.label_a_n[0]))
    page.mouse.move(2, 2)
    assert says(page) == before
    assert not drawn(page)
    assert not page.locator(".diml-veil").count()


def test_a_click_locks_a_part_and_escape_unlocks(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    row(page, 2).click()
    page.mouse.move(2, 2)
    assert says(page) == sentence(found, 2)
    assert row(page, 2).get_attribute("aria-pressed") == "true"
    assert "part 3" in page.locator(".diml-state").text_content()
    selected = page.locator('.diml-cell[aria-selected="true"]').count()
    assert selected == int((found.label_a_n == 2).sum() + (found.label_b_m == 2).sum())
    page.keyboard.press("Escape")
    assert row(page, 2).get_attribute("aria-pressed") == "false"
    cell = page.locator('.diml-cell[data-side="b"][data-n="35"]')
    for pressed in ("true", "false"):
        cell.click()
        assert row(page, int(found.label_b_m[35])).get_attribute("aria-pressed") == pressed


def test_the_keyboard_reaches_all_of_it(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    stops = []
    for _ in range(10):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent")
        )
        if stops[-1].startswith("part 2"):
            assert says(page) == sentence(found, 1)
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert stops[:2] == ["parts", "flows"]
    assert stops[2].startswith("A ")
    assert stops[3].startswith("B ")
    assert [stop.split(":")[0] for stop in stops[4:]] == [
        "part 1",
        "leave out part 1",
        "part 2",
        "leave out part 2",
        "part 3",
        "leave out part 3",
    ]
    assert f"adds {found.contribution_k[0]:.4f}" in stops[4]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert row(page, 2).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert row(page, 2).get_attribute("aria-pressed") == "false"
    page.keyboard.press("x")
    assert "part 3" in page.locator(".diml-left_out").text_content()
    assert page.locator(".diml-says, .diml-left_out").evaluate_all(
        "all => all.map(e => e.ariaLive)"
    ) == ["polite", "polite"]


def test_a_saved_page_says_the_sum_without_a_part(visit, m, found):
    page = visit(export_html(*IMAGES, m))
    page.get_by_role("button", name="leave out part 2").click()
    left = found.similarity - found.contribution_k[1].item()
    assert page.locator(".diml-left_out").text_content() == (
        f"S without what part 2 adds: {left:.4f}"
    )
    tinted = page.locator('.diml-cell[style^="--tint"]').count()
    assert tinted == int((found.label_a_n != 1).sum() + (found.label_b_m != 1).sum())
    page.locator(f'.diml-cell[data-side="a"][data-n="{found.label_a_n.tolist().index(0)}"]').click(
        modifiers=["Shift"]
    )
    assert page.locator(".diml-left_out").text_content().startswith("S without what parts 1 and 2")
    for k in (1, 2):
        page.get_by_role("button", name=f"leave out part {k}").click()
    assert page.locator(".diml-left_out").text_content() == ""
    assert not page.locator(".diml-cross").count()


def test_flows_are_one_click_below_and_both_remember(visit, m):
    page = visit(export_html(*IMAGES, m))
    row(page, 1).click()
    page.get_by_role("button", name="flows", exact=True).click()
    assert page.locator(".diml-parts").is_hidden()
    assert page.locator(".diml-table").is_visible()
    assert len(drawn(page)) == 12
    assert not page.locator(".diml-part-number, .diml-veil").count()
    assert page.evaluate("document.querySelector('.diml-cell').getAttribute('style')") == ""
    page.get_by_role("button", name="parts", exact=True).click()
    assert row(page, 1).get_attribute("aria-pressed") == "true"


@pytest.fixture
def live(visit, m):
    "A live view whose owner only listens."
    page = visit(
        f"""<!doctype html><style>{VIEW_CSS}</style><main></main><script type="module">{VIEW_JS}
window.changes = [];
window.view = createPairView(document.querySelector("main"), view => changes.push(view));
</script>"""
    )
    data = pair_payload(m, live=True)
    page.evaluate(
        "update => view.update(update)", dict(pictures=images_payload(*IMAGES), data=data)
    )
    return page


def test_a_live_view_asks_to_match_without_the_cells_of_a_part(live, m, found):
    live.get_by_role("button", name="drop part 1").click()
    cells = [
        (label == 0).nonzero().flatten().tolist() for label in (found.label_a_n, found.label_b_m)
    ]
    change = live.evaluate("changes.at(-1)")
    assert [change["dropped_a"], change["dropped_b"]] == cells
    assert change["left_out"] == []
    assert live.locator(".diml-cross").count() == sum(map(len, cells))
    live.get_by_role("button", name=f"take back {sum(map(len, cells))} dropped cells").click()
    change = live.evaluate("changes.at(-1)")
    assert change["dropped_a"] == change["dropped_b"] == []
    assert live.get_by_role("button", name="take back").count() == 0


def test_with_other_numbers_the_focus_stays_in_the_list(live, m):
    row(live, 2).focus()
    fewer = pair_payload(bands(2), live=True)
    live.evaluate("data => view.update({data, view: {part: 2}})", fewer)
    assert live.locator(".diml-part").count() == 2
    assert live.evaluate("document.activeElement.dataset.part") == "1"
    assert live.locator('.diml-part[aria-pressed="true"]').count() == 0
    live.evaluate("data => view.update({data})", pair_payload(m, live=True))
    assert live.evaluate("document.activeElement.dataset.part") == "1"
    assert live.locator(".diml-part").count() == 3


def test_a_pair_without_structure_says_so_and_shows_one_part(visit):
    maps = torch.rand(2, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    noise = match(grid_features(maps[:1], grid=7), grid_features(maps[1:], grid=7))
    page = visit(export_html(*IMAGES, noise))
    assert page.locator(".diml-note").text_content().startswith("no structure")
    assert page.locator(".diml-part").count() == 1
    assert page.locator(".diml-drop").is_hidden()
    row(page, 0).focus()
    page.keyboard.press("x")
    assert page.locator(".diml-left_out").text_content() == ""


TEXT_PLACES = """all => all.map((node) => {
  const words = document.createRange();
  words.selectNodeContents(node);
  return words.getBoundingClientRect().toJSON();
})"""


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_page_needs_no_sideways_scrolling(visit, m, width):
    scores = [("cheapest (no entropy)", 0.5), ("cosine of the images", 0.25)]
    text = export_html(*IMAGES, m, other_scores=scores)
    page = visit(text, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    rest, bar = page.locator(".diml-bar").nth(3), page.locator(".diml-bar").nth(0)
    assert rest.bounding_box()["x"] == pytest.approx(bar.bounding_box()["x"], abs=1.5)
    page.get_by_role("button", name="flows", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    labels = page.locator(".diml-bars > :nth-child(3n + 1)")
    assert labels.count() == 2 + 12 + 3
    for place in labels.evaluate_all(TEXT_PLACES):
        assert place["left"] >= 0
        assert place["right"] < width / 2 + 10
