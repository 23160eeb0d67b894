"""The site of `make docs` in a real browser: every page and every link, by daylight and at night,
on a phone."""

import base64
import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from servers import CHROMIUM, NO_CHROMIUM, SCREENSHOTS, browser_page, serve_files

from diml_nb._internal.paths import REPO_ROOT

# the others are executed by test_notebooks.py
EXECUTED = ["index", "results", "16_sinkhorn", "45_steps", "explore/drawings"]
DOCS = REPO_ROOT / "docs"


# without a browser


@pytest.fixture(scope="module")
def docs():
    "The modules of docs/: book and walk."
    sys.path.insert(0, str(DOCS))
    try:
        import book
        import walk
    finally:
        sys.path.remove(str(DOCS))
    return book, walk


@pytest.fixture
def book(docs):
    return docs[0]


@pytest.fixture
def photos(tmp_path):
    "A folder that no program of ours made."
    folder = tmp_path / "photos"
    (folder / "2019").mkdir(parents=True)
    (folder / "2019" / "sea.jpg").write_bytes(b"the only copy")
    return folder


@pytest.fixture
def refused(book, monkeypatch, capsys):
    "What the program says instead of working."

    def ask(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["book.py", *map(str, words)])
        monkeypatch.setattr(book, "build", None)
        with pytest.raises(SystemExit) as exit:
            book.main()
        said = capsys.readouterr().err
        assert exit.value.code == 2, said
        assert said.startswith("book.py: "), said
        assert said.count("\n") == 1, said
        return said

    return ask


def test_photographs_are_not_replaced(photos):
    done = subprocess.run(
        [sys.executable, DOCS / "book.py", photos], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == f"book.py: {photos} holds files and was not made by this program: name another folder,"
        " or move it away\n"
    )
    assert (photos / "2019" / "sea.jpg").read_bytes() == b"the only copy"


@pytest.mark.parametrize(
    "words",
    [
        ["photos"],
        ["photos/2019"],
        ["site", "--book", "photos"],
        ["link"],
        ["photos/2019/sea.jpg"],
        ["photos/..", "--book", "elsewhere"],
    ],
)
def test_a_folder_that_is_not_ours_is_not_replaced(photos, refused, words):
    (photos.parent / "link").symlink_to(photos)
    before = sorted(photos.parent.rglob("*"))
    said = refused(*[word if word.startswith("--") else photos.parent / word for word in words])
    assert "was not made by this program" in said or "is a file" in said
    assert before == sorted(photos.parent.rglob("*"))
    assert (photos / "2019" / "sea.jpg").read_bytes() == b"the only copy"


@pytest.mark.parametrize(
    "words, why",
    [
        (["here", "--book", "here"], "must not lie in each other"),
        (["here", "--book", "here/book"], "must not lie in each other"),
        (["here/site", "--book", "here"], "must not lie in each other"),
        (["here", "--jobs=0"], "--jobs: expected at least 1"),
        (["here", "--execute=12_costs"], "there is no notebook 12_costs"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(tmp_path, refused, words, why):
    assert why in refused(*[word if word.startswith("--") else tmp_path / word for word in words])
    assert not list(tmp_path.iterdir())


def test_what_was_made_here_is_replaced(book, photos, tmp_path):
    made, empty = tmp_path / "made", tmp_path / "empty"
    book.mark(made)
    (made / "old.html").write_text("")
    empty.mkdir()
    for folder in (made, empty, tmp_path / "absent"):
        assert book.why_not(folder) == ""
        book.clear(folder)
        assert not folder.exists()
    with pytest.raises(FileExistsError, match="was not made by this program"):
        book.clear(photos)
    assert (photos / "2019" / "sea.jpg").exists()


def test_a_mark_speaks_for_its_own_folder_only(book, photos):
    book.mark(photos / "site")
    assert book.why_not(photos)
    book.mark(photos.parent / "outer")
    assert book.why_not(photos)


def test_every_page_stands_in_one_part(book):
    lines = [line for line in book.contents().split("\n") if line and line[0] not in ":`"]
    named = [line.rpartition("<")[2].rstrip(">") for line in lines]
    assert len(named) == len(set(named))
    assert set(book.NOTEBOOKS) | set(book.PAGES) <= {*named, "index"}
    parts = dict(re.findall(r":caption: ([^\n]*)\n\n(.*?)```", book.contents(), re.S))
    numbers = {
        part: re.findall(r"^\d\d (.*) <(\d.*)>$", text, re.M) for part, text in parts.items()
    }
    assert ("Record", "04_record") in numbers["Foundations"]
    assert [name for _, name in numbers["Reproduction"]][:5] == [
        "59_interval_plots",
        "59_notebook",
        "59_tables",
        "60_reproduce",
        "61_cluster",
    ]


def test_modules_in_folders_have_pages_of_their_whole_name(book):
    page = book.MODULES["records.record"].page()
    assert page.startswith("# diml_nb.records.record\n")
    assert "(/04_record.ipynb)" in page
    assert "(/api/records.record.md#save_record)" in book.linked("see `save_record`")


def test_a_word_of_the_notebook_is_no_link_to_a_module(book):
    code = [
        "from diml_nb.ot.matching import match",
        "class Claim:\n    differences: list",
        "def f(match, sinkhorn): pass",
    ]
    own = book.own_words("63_answers", code)
    assert "sinkhorn" in own
    assert "differences" in own
    assert "match" not in own
    assert book.linked("`sinkhorn` and `match`", own).startswith(
        "`sinkhorn` and [`match`](/api/ot.matching.md"
    )


def test_kept_outputs_depend_on_what_the_code_reaches(book):
    names = book.made_of(["from diml_nb.ot.sinkhorn import sinkhorn", "sinkhorn(1)"])
    assert "ot.sinkhorn.sinkhorn" in names
    assert {"requirements.txt", "diml_nb/viz/static/pair.js"} <= set(names)
    assert "learning.losses.make_loss" not in names
    assert names != book.made_of(
        ["from diml_nb.ot.sinkhorn import sinkhorn\nsinkhorn(1)"]
    )  # one cell, one output
    assert names != book.made_of(
        ["from diml_nb.ot.sinkhorn import sinkhorn", "sinkhorn(1)", "# a cell more"]
    )
    everything = book.made_of(
        ["from diml_nb.experiments.runner import find_record", "find_record('walk', 'full')"]
    )
    assert {
        "diml_nb/learning/losses.py",
        "diml_nb/ot/pair.c",
        "bench/suite.py",
        "Makefile",
        "nbs/reproduce/_template.ipynb",
    } <= set(everything)
    assert [name for name in everything if name.startswith("data/results/walk/")]


def test_a_site_without_the_page_for_pictures_of_your_own_says_why(book, monkeypatch):
    assert "own_pictures/index.html" in book.own_pictures_note() or book.own_pictures.missing()
    monkeypatch.setattr(book.own_pictures, "missing", lambda: "Node: apt-get install nodejs npm")
    assert "it needs Node: apt-get install nodejs npm." in book.own_pictures_note()


def test_packages_are_installed_when_they_are_missing_or_others_are_pinned(tmp_path):
    shutil.copy(REPO_ROOT / "Makefile", tmp_path)
    pinned = tmp_path / "docs" / "browser" / "package-lock.json"
    installed = pinned.parent / "node_modules" / ".package-lock.json"
    installed.parent.mkdir(parents=True)
    pinned.touch()

    def installs():
        command = ["make", "--dry-run", installed.relative_to(tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return "npm ci" in done.stdout

    assert installs()
    installed.touch()
    assert not installs()
    os.utime(installed, (1, 1))
    assert installs()
    rules = (REPO_ROOT / "Makefile").read_text()
    (needs,) = re.findall(r"^docs: (.*?) ##", rules, flags=re.M)
    assert str(installed.relative_to(tmp_path)) in needs.split()


def test_a_policy_names_scripts_that_stand_in_a_page_and_in_its_frames(book):
    frame = html.escape('<script type="module">b()</script>')
    policy = book.policy_of(
        f'<script>a()</script><script src="x.js"></script><iframe srcdoc="{frame}"></iframe>'
    )
    scripts = dict(rule.split(" ", 1) for rule in policy.split("; "))["script-src"]
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"a()", b"b()")]
    assert scripts.split() == ["'self'", *(f"'sha256-{name}'" for name in hashes)]


def test_the_walk_is_kept_under_its_name(docs):
    walk = docs[1]
    (path,) = walk.RECORDS.glob("*.json")
    record = walk.load_record(path)
    assert path.stem == record.hash == walk.Record("walk", dict(preset="full"), {}).hash
    assert "16_sinkhorn" in walk.walked()
    assert set(walk.walked()) <= set(walk.ORDER)


# in a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, a few of its notebooks executed; a warning of Sphinx is an error. `DIML_SITE`, a
    folder, is looked at instead."""
    if not CHROMIUM:
        pytest.skip(NO_CHROMIUM)
    if built := os.environ.get("DIML_SITE"):
        return Path(built).resolve()
    folder = tmp_path_factory.mktemp("docs")
    command = [
        sys.executable,
        str(DOCS / "book.py"),
        str(folder / "site"),
        "--book",
        str(folder / "build" / "book"),
        "--execute",
        *EXECUTED,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr, done.stderr[-3000:]
    assert sorted(path.name for path in folder.iterdir()) == ["build", "site"]
    assert [path.name for path in (folder / "build").iterdir()] == [
        "book"
    ]  # nothing is left beside it
    return folder / "site"


@pytest.fixture(scope="module")
def address(site):
    with serve_files(site) as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    with browser_page(color_scheme="light") as page:
        page.on(
            "console",
            lambda message: (
                page.faults.append(f"{page.url}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        # a page that is left cancels what it still waits for
        page.on(
            "requestfailed",
            lambda request: (
                page.faults.append(f"{page.url}: {request.url} failed: {request.failure}")
                if request.failure != "net::ERR_ABORTED"
                else None
            ),
        )
        page.on(
            "response",
            lambda answer: (
                page.faults.append(f"{answer.url}: {answer.status}")
                if answer.status >= 400
                else None
            ),
        )
        yield page
        assert not page.faults, page.faults[:5]
        assert not page.outside(address), page.outside(address)[:5]


@pytest.fixture
def visit(page):
    "Open a page by itself; at the end it has asked for nothing outside of its own place."
    context = page.context.browser.new_context()

    def visit(url, place):
        opened = context.new_page()
        asked = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(url)
        assert not [url for url in asked if not url.startswith((place, "data:"))]
        return opened

    yield visit
    context.close()


def pages(site):
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


SEEN = """async () => {
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => 0);
  }
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const formulas = [...document.querySelectorAll("article .math")];
  return {
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
    anchors: [...document.querySelectorAll("[id]")].map(e => e.id),
    words: document.querySelector("article, [role=main]")?.innerText ?? "",
    formulas: formulas.length,
    drawn: formulas.filter(f => f.querySelector("mjx-container svg")
      && !f.querySelector("[data-mml-node=merror], [fill=red]")).length,
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
    for path in (REPO_ROOT / "nbs").rglob("[!_]*.ipynb"):
        assert path.relative_to(REPO_ROOT / "nbs").with_suffix(".html").as_posix() in seen
    for path in (REPO_ROOT / "diml_nb").rglob("[a-z]*.py"):
        assert (
            f"api/{'.'.join(path.relative_to(REPO_ROOT / 'diml_nb').with_suffix('').parts)}.html"
            in seen
        )


def test_a_page_that_is_no_notebook_is_reached(seen):
    links = {urldefrag(link)[0].rpartition("/")[2] for link in seen["04_record.html"]["links"]}
    assert "VERSIONS.html" in links
    assert "reproduce/VERSIONS.html" in seen


def test_no_link_is_broken(site, address, seen):
    followed = 0
    for name, page in seen.items():
        for link in {a for a in page["links"] if a.startswith(address)}:
            target, anchor = urldefrag(link.removeprefix(f"{address}/"))
            assert (site / unquote(target or "index.html")).is_file(), f"{name} links to {link}"
            assert not anchor or target not in seen or unquote(anchor) in seen[target]["anchors"], (
                f"{name} links to {link}"
            )
            followed += 1
        assert not [
            a
            for a in page["links"]
            if a.startswith(("file:", "http://")) and not a.startswith(address)
        ], name
    assert followed > 2000


def test_pictures_and_formulas_are_drawn(seen):
    for name, page in seen.items():
        assert not page["missing"], f"{name}: {page['missing'][:2]}"
        assert page["formulas"] == page["drawn"], (
            f"{name}: {page['drawn']} of {page['formulas']} formulas"
        )
        assert "$$" not in page["words"] or name == "solutions.html", name
    assert sum(page["formulas"] for page in seen.values()) > 130


def test_directives_are_gone_and_outputs_are_there(site, seen):
    assert not [name for name, page in seen.items() if re.search(r"^#\| ", page["words"], re.M)]
    assert "of S within 3 parts" in seen["index.html"]["words"]
    assert "cosine, weighted pooling" in seen["results.html"]["words"]  # a table made from a record
    for name in {*EXECUTED} - {"results"}:  # its outputs are Markdown
        assert '<div class="output' in (site / f"{name}.html").read_text(), name
    steps = (site / "45_steps.html").read_text()
    assert 'data-diml-live="steps"' in steps
    assert "application/vnd.jupyter.widget" not in steps


def test_an_explorer_answers_on_the_site_and_from_a_file(site, address, visit):
    for place in (address, site.as_uri()):
        page = visit(f"{place}/16_sinkhorn.html", place)
        for kind in ("small_plan", "sinkhorn"):
            explorer = page.locator(f"[data-diml-live={kind}]")
            before = explorer.locator(".diml-says").text_content()
            explorer.locator("[data-control=eps]").focus()
            page.keyboard.press("ArrowRight")
            explorer.get_by_text(before).wait_for(state="detached")
            assert "eps" in explorer.locator(".diml-says").text_content()


def test_the_page_of_own_pictures_stands_beside_its_chapter(book, address, page):
    if reason := book.own_pictures.missing():
        pytest.skip(f"the page needs {reason}")
    page.goto(f"{address}/47_own_pictures.html")
    page.get_by_role("link", name="Match two pictures of your own").click()
    page.get_by_role("button", name="fetch the network").wait_for()
    page.get_by_role("link", name="How this page works").click()
    page.wait_for_url("**/47_own_pictures.html")


def test_the_gallery_of_all_drawings(site, address, visit):
    "It ranks, compares and opens a pair, from a server and from a file, in a page below 5 MB."
    assert (site / "explore" / "drawings.html").stat().st_size < 5_000_000
    for place in (address, site.as_uri()):
        page = visit(f"{place}/explore/drawings.html", place)
        row = page.get_by_role("group", name="by cosine + S", exact=True)
        before = row.get_by_role("button").evaluate_all("all => all.map(e => e.ariaLabel)")
        page.locator("[data-control=eps]").first.focus()
        page.keyboard.press("Home")
        first = "document.querySelector('[data-row=\"1\"] button').ariaLabel"
        page.wait_for_function(f"old => {first} !== old", arg=before[0])
        # the chosen candidate may stand at place 1 or 2 by now
        row.get_by_role("button").nth(2).click(modifiers=["Shift"])
        page.get_by_role("table").filter(has_text="Why").wait_for()
        assert page.locator(".diml-cell").count() == 32


def test_every_page_says_what_it_may_load_and_run(site):
    for path in site.rglob("*.html"):
        (policy,) = re.findall(
            r'Content-Security-Policy" content="([^"]*)"', path.read_text()[:9000]
        )
        allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert allowed["script-src"].startswith("'self'"), path
        own = (
            "'wasm-unsafe-eval'" if path.parent.name == "own_pictures" else ""
        )  # it runs a network
        assert "unsafe" not in allowed["script-src"].replace(own, ""), path
        assert "http" not in policy, path


def test_it_fits_a_phone(seen):
    assert not {name: page["reach"] for name, page in seen.items() if page["reach"] > 400}


def test_search_finds(address, page):
    page.goto(f"{address}/index.html")
    box = page.locator("input[name=q]").first
    page.set_viewport_size({"width": 1400, "height": 1000})
    box.fill("Sinkhorn")
    box.press("Enter")
    page.wait_for_load_state(
        "networkidle"
    )  # it reads the pages that it has found, to show some words of them
    page.locator("#search-results li a", has_text=re.compile("^Sinkhorn$")).first.click()
    page.wait_for_url("**/16_sinkhorn.html*")
    assert page.locator("h1").inner_text().startswith("Sinkhorn")


def test_dark_and_light(address, page):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{address}/16_sinkhorn.html")
        shades[scheme] = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        page.screenshot(path=SCREENSHOTS / f"docs-{scheme}.png")
    assert min(shades["light"]) > 200, shades
    assert max(shades["dark"]) < 60, shades
