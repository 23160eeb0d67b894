"""Figures and pages of hits: the parts that are drawn are those of the match, the numbers add up,
and a page is read by people and machines."""

import re
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from servers import CHROMIUM, NO_CHROMIUM, chromium

from diml_nb.features.grid import grid_features
from diml_nb.matcher.hits import Hits, Query
from diml_nb.ot.matching import MatchOptions


class Shelf:
    "A gallery of three pictures, of which one is wider than high; their names hold markup."

    options = MatchOptions()
    ids, labels = ["<b>one</b>", 'two"', "three&"], ["<i>", None, "c"]

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        sides = [(7, 7), (4, 9), (7, 7)]
        self.maps = [torch.rand(1, 8, *side, generator=generator) for side in sides]

    def features_at(self, position):
        x = self.maps[position]
        return grid_features(x, grid=tuple(x.shape[2:]))

    def picture_at(self, position):
        rows, columns = self.maps[position].shape[2:]
        return Image.new("RGB", (32 * columns, 32 * rows), "teal")


@pytest.fixture
def hits():
    "The query is the first picture; the last hit lies behind the shortlist."
    shelf = Shelf()
    query = Query("<u>query</u>", shelf.features_at(0), shelf.picture_at(0))
    cosine_k = torch.tensor([1.0, 0.8, 0.7])
    similarity_k = torch.tensor([0.5, 0.4, torch.nan])
    score_k, rank_k = cosine_k + similarity_k.nan_to_num(0.0), torch.tensor([1, 2, 3])
    return Hits(query, shelf, rank_k, torch.tensor([0, 1, 2]), score_k, cosine_k, similarity_k)


def cards(page):
    "The items of the list, as trees: they are well-formed."
    items = re.findall(r"<li>.*?</li>", page, re.S)
    return [ElementTree.fromstring(item.replace("<br>", "<br/>")) for item in items]


def rows(card):
    "The cells of each row of the table of parts, as texts."
    table = card.find("table")
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_a_card_is_the_sum_of_its_parts(hits):
    for card, hit in zip(cards(hits.to_html()), hits, strict=True):
        head, *parts, rest, total = rows(card)
        found = hit.parts
        assert head == ["part", "query", "hit", "contribution", "cosine", "mass"]
        assert [row[0] for row in parts] == [str(k + 1) for k in range(len(found.contribution_k))]
        values = [float(row[3]) for row in parts]
        assert values == pytest.approx(found.contribution_k.tolist(), abs=6e-5)
        assert [float(row[4]) * float(row[5]) for row in parts] == pytest.approx(values, abs=2e-3)
        assert (rest[0], total[0]) == ("rest", "sum")
        assert sum(values) + float(rest[2]) == pytest.approx(float(total[2]), abs=4e-4)
        assert float(total[2]) == pytest.approx(float(hit.match.similarity_b), abs=6e-5)


def test_each_cell_of_a_part_is_colored_and_each_part_numbered_in_both_pictures(hits):
    for card, hit in zip(cards(hits.to_html()), hits, strict=True):
        drawing, found = card.find("svg"), hit.parts
        label_i = torch.cat([found.label_a_n, found.label_b_m])
        by_part = [len(group) for group in drawing.findall("g[@class='cells']/g")]
        count = len(found.contribution_k)
        for k in range(count):
            assert by_part[k] + by_part[count + k] == (label_i == k).sum()
        numbers = [text.text for text in drawing.findall("text")]
        assert numbers == 2 * [str(k + 1) for k in range(count)]


def test_flows_are_one_click_below_and_a_picture_is_there_once(hits):
    for card in cards(hits.to_html(top=5)):
        (details,) = card.findall("details")
        assert details.get("open") is None
        assert len(details.findall("svg/g/path")) == len(details.findall("table/tbody/tr")) == 5
        names = [image.get("id") for image in card.iter("image")]
        used = {use.get("href").removeprefix("#") for use in card.iter("use")}
        assert len(names) == 2 and used == set(names)


def test_a_page_reads_aloud_and_shows_names_as_text(hits):
    page = hits.to_html()
    trees = cards(page)
    for tree, hit in zip(trees, hits, strict=True):
        for svg in tree.iter("svg"):
            named = svg.get("role") == "img" and f"<u>query</u> and {hit.id}" in svg.get(
                "aria-label"
            )
            assert named or svg.get("aria-hidden") == "true"
        assert all(cell.get("scope") in ("col", "row") for cell in tree.iter("th"))
        assert hit.id in tree.find("h2").text
    assert "behind the shortlist" in trees[2].find("p").text
    assert not re.search("<[ub]>|<i>|<script", page)


def test_a_script_that_a_card_would_hold_is_not_permitted(hits, monkeypatch):
    monkeypatch.setattr("diml_nb.matcher.hits._card", lambda hit, top: "<script>alert()</script>")
    page = hits.to_html()
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', page)
    assert "<script>alert()</script>" in page
    assert "script-src" not in policy and "default-src 'none'" in policy


def test_a_figure_shows_parts_unless_flows_are_asked_for(hits, tmp_path):
    hit = hits[1]
    for by, words in (("parts", "parts "), ("flows", "sum of contributions")):
        caption = " ".join(text.get_text() for ax in hit.figure(by).axes for text in ax.texts)
        assert words in caption
        hit.explain(tmp_path / f"{by}.svg", by)
        assert words in (tmp_path / f"{by}.svg").read_text()
    assert [len(ax.texts) for ax in hit.figure().axes] == [
        len(ax.texts) for ax in hit.figure("parts").axes
    ]
    for call in (lambda: hit.figure("cells"), lambda: hit.explain(tmp_path / "x.html", "cells")):
        with pytest.raises(ValueError, match="by: expected 'parts' or 'flows', got 'cells'"):
            call()


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_the_page_in_a_browser(hits, tmp_path, scheme):
    "It fits a telephone, asks nobody for anything, and its numbers stand on their colours."
    file, said = tmp_path / "hits.html", []
    hits.to_html(file)
    with chromium() as browser:
        page = browser.new_page(viewport=dict(width=400, height=800), color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        flows = page.locator("details path").first
        assert not flows.is_visible()
        page.locator("summary").first.click()
        assert flows.is_visible()
        circle = "getComputedStyle(x.querySelector('circle')).fill"
        look = f"x => [getComputedStyle(x).color, {circle}]"
        color, ground = page.locator(".number").first.evaluate(look)
        assert (color, ground) == ("rgb(0, 0, 0)", "rgb(230, 159, 0)")
    assert not said
