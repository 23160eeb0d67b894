"The site of `make docs` in a real browser: every page and every link, by daylight and at night, on a phone."
import functools
import os
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from servers import CHROMIUM, NO_CHROMIUM, SCREENSHOTS, browser_page

from diml_nb.core import REPOSITORY

EXECUTED = ["index", "12_cost", "16_sinkhorn", "45_steps"]          # the others are executed by test_notebooks.py
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words): pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, a few of its notebooks executed; a warning of Sphinx is an error. `DIML_SITE`, a folder, is looked at instead."
    if built := os.environ.get("DIML_SITE"): return Path(built).resolve()
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, str(REPOSITORY / "docs" / "book.py"), str(folder / "site"), "--book", str(folder / "build" / "book"), "--execute", *EXECUTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return folder / "site"


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(address):
    with browser_page(color_scheme="light") as page:
        page.on("console", lambda message: page.faults.append(f"{page.url}: {message.text}") if message.type in ("error", "warning") else None)
        page.on("requestfailed", lambda request: page.faults.append(f"{page.url}: {request.url} failed"))
        page.on("response", lambda answer: page.faults.append(f"{answer.url}: {answer.status}") if answer.status >= 400 else None)
        yield page
        assert not page.faults, page.faults[:5]
        assert not page.outside(address), page.outside(address)[:5]


def pages(site):
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


SEEN = """async () => {
  for (const image of document.images) { image.loading = "eager"; await image.decode().catch(() => 0); }
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const formulas = [...document.querySelectorAll("article .math")];
  return {
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
    anchors: [...document.querySelectorAll("[id]")].map(e => e.id),
    words: document.querySelector("article, [role=main]")?.innerText ?? "",
    formulas: formulas.length,
    drawn: formulas.filter(f => f.querySelector("mjx-container svg") && !f.querySelector("[data-mml-node=merror], [fill=red]")).length,
    missing: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
  };
}"""


@pytest.fixture(scope="module")
def seen(site, address, page):
    "What every page shows in a window of 1400 pixels, and how far it reaches on a phone."
    found = {}
    for name in pages(site):
        page.set_viewport_size({"width": 1400, "height": 1000})
        page.goto(f"{address}/{name}")
        found[name] = page.evaluate(SEEN)
        page.set_viewport_size({"width": 390, "height": 844})
        found[name]["reach"] = page.evaluate("document.documentElement.scrollWidth")
    return found


def test_every_notebook_and_module_has_its_page(seen):
    for path in (REPOSITORY / "nbs").rglob("[!_]*.ipynb"): assert path.relative_to(REPOSITORY / "nbs").with_suffix(".html").as_posix() in seen
    for path in (REPOSITORY / "diml_nb").rglob("[a-z]*.py"): assert f"api/{'.'.join(path.relative_to(REPOSITORY / 'diml_nb').with_suffix('').parts)}.html" in seen


def test_no_link_is_broken(site, address, seen):
    followed = 0
    for name, page in seen.items():
        for link in {a for a in page["links"] if a.startswith(address)}:
            target, anchor = urldefrag(link.removeprefix(f"{address}/"))
            assert (site / unquote(target or "index.html")).is_file(), f"{name} links to {link}"
            assert not anchor or target not in seen or unquote(anchor) in seen[target]["anchors"], f"{name} links to {link}"
            followed += 1
        assert not [a for a in page["links"] if a.startswith(("file:", "http://")) and not a.startswith(address)], name
    assert followed > 2000


def test_pictures_and_formulas_are_drawn(seen):
    for name, page in seen.items():
        assert not page["missing"], f"{name}: {page['missing'][:2]}"
        assert page["formulas"] == page["drawn"], f"{name}: {page['drawn']} of {page['formulas']} formulas"
        assert "$$" not in page["words"] or name == "solutions.html", name
    assert sum(page["formulas"] for page in seen.values()) > 130


def test_directives_are_gone_and_outputs_are_there(site, seen):
    assert not [name for name, page in seen.items() if re.search(r"^#\| ", page["words"], re.M)]
    assert "structural similarity 0.527 = sum of 2401 contributions" in seen["index.html"]["words"]
    assert "cosine, weighted pooling" in seen["index.html"]["words"]                                   # a table made from a record
    for name in EXECUTED: assert '<div class="output' in (site / f"{name}.html").read_text(), name
    steps = (site / "45_steps.html").read_text()
    assert "<div data-diml-static" in steps and "application/vnd.jupyter.widget" not in steps          # the picture that an explorer leaves where nothing is live


def test_it_fits_a_phone(seen):
    assert not {name: page["reach"] for name, page in seen.items() if page["reach"] > 400}


def test_search_finds(address, page):
    page.goto(f"{address}/index.html")
    box = page.locator("input[name=q]").first
    page.set_viewport_size({"width": 1400, "height": 1000})
    box.fill("Sinkhorn")
    box.press("Enter")
    page.wait_for_load_state("networkidle")                            # it reads the pages that it has found, to show some words of them
    page.locator("#search-results li a", has_text=re.compile("^Sinkhorn$")).first.click()
    page.wait_for_url("**/16_sinkhorn.html*")
    assert page.locator("h1").inner_text().startswith("Sinkhorn")


def test_dark_and_light(address, page):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{address}/16_sinkhorn.html")
        shades[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
        page.screenshot(path=SCREENSHOTS / f"docs-{scheme}.png")
    assert min(shades["light"]) > 200 and max(shades["dark"]) < 60, shades
