"""Scripts and style sheets of `diml_nb/viz/static`: unit tests, syntax, formatter, linter, types.

Node runs the unit tests in `tests/js` and needs no package for that. The linter and the type
checker are packages of `tests/js/package.json`, which `npm ci --prefix tests/js` installs.
"""

import json
import re
import subprocess

import pytest
import torch
from pages import page_payload
from scripts import JS, NODE, needs_node

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.grid import grid_features
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import match
from diml_nb.viz.html import (
    STATIC,
    explorer_frame,
    explorer_html,
    inline_hashes,
    page_html,
    pair_payload,
    script_text,
    seal_page,
    show_source,
    static_text,
)
from diml_nb.viz.part_figures import PART_COLORS
from diml_nb.viz.widgets.controls import MARGINAL_LABELS
from diml_nb.viz.widgets.live import live_pair, pack_table
from diml_nb.viz.widgets.pair import DEFAULT_VIEW, PLAN_LABELS, PairExplorer
from diml_nb.viz.widgets.ranking import RetrievalExplorer
from diml_nb.viz.widgets.sinkhorn import SinkhornExplorer

TOOLS = JS / "node_modules" / ".bin"
SCRIPTS = sorted(path.name for path in STATIC.glob("*.js"))
# that of the page of hits is about the page as a whole
STYLES = sorted({path.name for path in STATIC.glob("*.css")} - {"hits.css"})
STARTS = [
    "own_pictures_page.js",
    "pair.js",
    "pair_page.js",
    "ranking.js",
    "ranking_page.js",
    "sinkhorn.js",
    "sinkhorn_page.js",
    "small_plan.js",
    "small_plan_page.js",
    "static_figure.js",
    "steps_page.js",
]


needs_tools = pytest.mark.skipif(
    not (NODE and (TOOLS / "biome").exists()),
    reason="no linter of scripts here: npm ci --prefix tests/js",
)


def run(*command):
    "Run a command in tests/js; what it wrote, once it has succeeded."
    done = subprocess.run([str(word) for word in command], cwd=JS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def properties(name, typedef):
    "Names of the properties of a type in the comments of a script."
    text = static_text(name).split(f"@typedef {{object}} {typedef}")[1].split("@typedef")[0]
    return set(re.findall(r"@property \{.*\} (\w+)", text.split("*/")[0]))


@needs_node
def test_unit_tests():
    output = run(NODE, "--test", "--test-reporter=tap")
    counts = {word: int(n) for word, n in re.findall(r"^# (\w+) (\d+)$", output, flags=re.M)}
    written = sum(path.read_text().count("\ntest(") for path in JS.glob("*.test.js"))
    assert counts["pass"] == counts["tests"] == written > 50


@needs_node
@pytest.mark.parametrize("name", STARTS)
def test_a_joined_script_is_a_module(name, tmp_path):
    "Two files that share a name at their top level would be a syntax error here."
    file = tmp_path / "joined.mjs"
    file.write_text(script_text(name), encoding="utf-8")
    run(NODE, "--check", file)


@needs_node
def test_a_name_that_is_given_twice_is_found(tmp_path):
    file = tmp_path / "joined.mjs"
    file.write_text(script_text("pair.js") + "\nconst range = 1;\n", encoding="utf-8")
    assert subprocess.run([NODE, "--check", str(file)], capture_output=True).returncode != 0


@needs_tools
def test_formatter_and_linter():
    run(
        TOOLS / "biome",
        "ci",
        "--config-path=biome.json",
        STATIC,
        REPO_ROOT / "docs" / "custom.css",
        REPO_ROOT / "docs" / "browser" / "maps.js",
        ".",
    )


@needs_tools
def test_types_in_comments():
    run(TOOLS / "tsc", "--project", "jsconfig.json")


def test_every_script_is_part_of_a_page_or_a_widget():
    joined = "\n".join(script_text(name) for name in STARTS)
    for name in SCRIPTS:
        assert re.sub(r"^import [^;]*;\n", "", static_text(name), flags=re.M) in joined, name


@pytest.mark.parametrize("name", STARTS)
def test_a_joined_script_holds_each_file_once_and_asks_for_none(name):
    text = script_text(name)
    assert not re.search(r"^import\b", text, flags=re.M)
    assert text.count("import(") == (name == "own_pictures_page.js")  # the runtime of the network
    functions = re.findall(r"^(?:export )?(?:async )?function (\w+)", text, flags=re.M)
    assert len(functions) == len(set(functions))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_and_asks_for_nothing(name):
    text = static_text(name)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "Function("):
        assert word not in text, word
    assert text.count("fetch(") == (name == "own_network.js")  # from beside its page
    assert "</" not in text
    assert "<!--" not in text
    assert set(re.findall(r"https?:[^'\"]*", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", STYLES)
def test_a_style_sheet_asks_for_nothing_and_stays_with_its_own_classes(name):
    text = re.sub(r"/\*.*?\*/", "", static_text(name), flags=re.S)
    for wrong in ("url(", "@import", "</"):
        assert wrong not in text
    rules = re.sub(r"\{[^{}]*\}", "", text)
    for selector in re.split(r"[,{}\n]", rules):
        assert selector.strip().startswith((".diml-", "@media")) or not selector.strip(), selector


@pytest.mark.parametrize("name", ["own_pictures.css", "ranking.css"])
def test_a_page_with_a_pair_has_no_rule_of_its_own_for_a_class_of_the_pair(name):
    def classes(name):
        "But for those of the two sides, which only choose among other classes."
        text = re.sub(r"/\*.*?\*/", "", static_text(name), flags=re.S)
        return set(re.findall(r"\.(diml-[\w-]+)", text)) - {"diml-a", "diml-b"}

    assert classes("pair.css") & classes("controls.css") == set()
    assert classes(name) & (classes("pair.css") | classes("controls.css")) == set()


def test_a_saved_page_forbids_itself_every_request():
    page = page_html("$policy", explorer_html("pair", {}, fallback="<script>alert()</script>"))
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', page)
    allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for name in ("default-src", "base-uri", "form-action"):
        assert allowed.pop(name) == "'none'"
    assert allowed.pop("img-src") == "data:"
    assert set(allowed) == {"style-src", "script-src"}
    for hashes in allowed.values():
        assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", word) for word in hashes.split())
    (own,) = inline_hashes(explorer_frame("pair"))["script"]
    assert allowed["script-src"] == own
    assert inline_hashes(page)["script"] == [
        *inline_hashes("<script>alert()</script>")["script"],
        own,
    ]
    assert "<title>$policy</title>" in page


def test_a_policy_permits_only_what_this_library_wrote():
    page = '<meta content="$policy"><style>own</style><style>a{}</style><script>alert()</script>'
    sealed = seal_page(page, "<style>own</style>", connect_src="'self'")
    (policy,) = re.findall('content="(.*?)"', sealed)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["style-src"].split() == inline_hashes("<style>own</style>")["style"]
    assert "script-src" not in rules  # so that of default-src holds
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"


def test_the_types_name_what_python_sends():
    maps = torch.rand(2, 8, 7, 7)
    payload = pair_payload(match(grid_features(maps[:1], grid=7), grid_features(maps[1:], grid=7)))
    assert properties("pair_data.js", "PairPayload") == set(payload)
    assert properties("pair_data.js", "PairParts") == set(payload["parts"])
    assert properties("pair_data.js", "Part") == set(payload["parts"]["list"][0])
    assert properties("pair_state.js", "ViewState") == set(DEFAULT_VIEW)


def test_the_types_name_the_traits_of_the_widgets():
    images = get_dataset("emoji").subset("test").select(torch.arange(3))
    trace = SinkhornExplorer(images.paths[0], images.paths[1]).view.trace
    assert properties("sinkhorn.js", "Trace") == set(trace)
    explorer = RetrievalExplorer(images, grid=2)
    shown = explorer.view
    first, second = explorer.found.candidates
    explorer.state = dict(view=dict(first=first, second=second))
    assert properties("ranking_why.js", "Reason") == set(shown.reason)
    assert properties("ranking_why.js", "ReasonRow") == set(shown.reason["rows"][0])
    assert properties("ranking_parts.js", "QueryCells") == set(shown.reason["pictures"][0])
    assert properties("ranking.js", "Lists") == set(shown.lists)
    assert properties("ranking.js", "Candidate") == set(shown.lists["rows"][0]["items"][0])
    assert properties("ranking.js", "Choice") == set(shown.value)


def test_the_types_name_what_a_live_page_gets():
    images = get_dataset("emoji").subset("test").select(torch.arange(2))
    pair = PairExplorer(*images.paths[:2], grid=2)
    live = live_pair(tuple(x.map_bchw for x in pair.maps), dict(eps=pair.controls["eps"]))
    table = pack_table(*(x(2) for x in pair.maps))
    assert properties("solver_match.js", "TablePayload") == set(table)
    assert properties("pair_page.js", "LivePair") == set(live)
    assert properties("solver_cells.js", "MapPayload") == set(live["maps"]["a"])
    (control,) = live["controls"]
    assert properties("page_controls.js", "ControlPayload") == set(control) - {
        "low",
        "high",
        "step",
    }
    assert properties("pair_answer.js", "PairRequest") == set(pair.controls)


def test_the_types_name_what_a_gallery_gets():
    images = get_dataset("emoji").subset("test").select(torch.arange(4))
    gallery = RetrievalExplorer(images, grid=2, top_k=2)
    payload = page_payload(gallery.live_html(""))
    assert properties("ranking_page.js", "RankingPayload") == set(payload)
    assert properties("gallery_data.js", "GalleryPayload") == set(payload["gallery"])
    assert properties("gallery_data.js", "GalleryImage") == set(payload["images"][0])
    assert properties("gallery_lists.js", "GalleryRule") == set(payload["gains"]["rule"])


def test_a_rule_of_the_marginals_has_the_name_of_python():
    names = static_text("ranking_text.js").split("MARGINAL_NAMES = {")[1].split("};")[0]
    found = {rule: json.loads(f'"{label}"') for rule, label in re.findall(r'(\w+): "(.*)",', names)}
    assert found == {rule: label for label, rule in MARGINAL_LABELS.items()}


def test_plans_and_rules_have_the_names_of_python():
    names = re.findall(r'  (\w+): "(.*)",', static_text("pair_answer.js"))
    assert {label: plan for plan, label in names} == PLAN_LABELS
    rules = static_text("solver_match.js").split("MARGINAL_RULES = {")[1].split("};")[0]
    assert re.findall(r"(\w+): \(", rules) == list(MARGINAL_RULES)
    (colors,) = re.findall(r"PART_COLORS = (\[.*\])", static_text("pair_answer.js"))
    assert json.loads(colors) == list(PART_COLORS)


def test_the_types_name_the_parts_of_a_query():
    shown = RetrievalExplorer(get_dataset("emoji").subset("test"), top_k=20).view
    assert properties("ranking_parts.js", "QueryPart") == set(shown.lists["parts"][0])
    assert properties("ranking_parts.js", "QueryCells") == set(shown.lists["cells"])


def test_a_view_begins_as_python_says():
    (default,) = re.findall(
        r"DEFAULT_VIEW = \{(.*?)\n\};", static_text("pair_state.js"), flags=re.S
    )
    values = dict(re.findall(r"(\w+): (.*),", default))
    assert {name: json.loads(value) for name, value in values.items()} == DEFAULT_VIEW


def test_a_title_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        show_source("dom.js", "nothing")
