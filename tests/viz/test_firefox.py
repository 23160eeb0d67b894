"""Pages without Python in Firefox: by mouse, keyboard and accessibility tree, with no request."""

import re

import pytest
import torch
from firefox import FIREFOX, KEYS, NO_FIREFOX, firefox

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.registry import get_dataset
from diml_nb.viz.html import page_html
from diml_nb.viz.widgets.pair import PairExplorer
from diml_nb.viz.widgets.ranking import RetrievalExplorer

pytestmark = pytest.mark.skipif(not FIREFOX, reason=NO_FIREFOX)
PATHS = [data_dir() / "emoji" / "pineapple" / f"{design}.png" for design in ("emojione", "noto")]


@pytest.fixture(scope="module")
def browser():
    with firefox() as page:
        yield page


@pytest.fixture
def visit(browser, tmp_path):
    "Open a page from a file; at the end nothing else was asked for, and nothing went wrong."

    def visit(text):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        browser.requests.clear()
        browser.faults.clear()
        browser.visit(file.as_uri())
        browser.settle()
        return browser

    yield visit
    browser.run("1")  # events that have happened are read
    outside = [url for url in browser.requests if not url.startswith(("data:", "blob:", "file:"))]
    assert not outside
    assert not browser.faults


def text_of(page, selector):
    return page.run(f"document.querySelector({selector!r})?.textContent")


def test_a_pair_is_matched_again(visit, tmp_path):
    pair = PairExplorer(*PATHS, labels=("emojione", "noto"))
    page = visit(pair.save("pair.html", tmp_path).read_text(encoding="utf-8"))
    (eps,) = page.found('[data-control="eps"]')
    page.click(eps)
    page.press(KEYS["left"], KEYS["left"], KEYS["left"])
    exponent = float(page.run("document.querySelector('[data-control=eps]').value"))
    pair.state = dict(eps=10**exponent)
    shown = float(re.search(r"S = ([\d.]+)", text_of(page, ".diml-score"))[1])
    assert shown == pytest.approx(pair.match.similarity_b.item(), abs=1e-4)
    assert len(page.named("button", "drop part 1")) == 1


def test_a_gallery_compares_two_candidates(visit):
    images = get_dataset("emoji").subset("test").select(torch.arange(30))
    gallery = RetrievalExplorer(images, grid=4, top_k=8)
    page = visit(page_html("Drawings", gallery.live_html("")))
    assert len(page.named("combobox", "query")) == 1
    assert len(page.named("group", "by cosine + S")) == 1
    buttons = page.found('[data-row="1"] button')
    page.click(buttons[2])
    first, second = (gallery.view.lists["rows"][1]["items"][k]["label"] for k in (2, 3))
    assert text_of(page, ".diml-label.diml-b") == first
    page.press(KEYS["tab"], "c")
    gallery.state = dict(view=dict(zip(("first", "second"), gallery_places(gallery, 2, 3))))
    assert text_of(page, "caption") == gallery.view.reason["caption"]
    assert first in gallery.view.reason["caption"] and second in gallery.view.reason["caption"]


def gallery_places(gallery, *places):
    return [gallery.view.lists["rows"][1]["items"][k]["index"] for k in places]


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_page(visit, width):
    images = get_dataset("emoji").subset("test").select(torch.arange(12))
    text = page_html("Drawings", RetrievalExplorer(images, grid=4, top_k=5).live_html(""))
    page = visit(text)
    page.resize(width, 900)
    page.settle()
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
