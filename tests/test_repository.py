"Laws of the repository: import direction, clean notebooks, sizes, definitions followed by an assertion."
import ast
import json
import re
import statistics
import subprocess

import pytest

from diml_nb.core import REPOSITORY

NBS = {p.stem.split("_", 1)[1]: p for p in sorted((REPOSITORY / "nbs").glob("[0-9]*_*.ipynb")) if "#| default_exp" in p.read_text()}
MODULES = {p.stem: p for p in sorted((REPOSITORY / "diml_nb").glob("[a-z]*.py"))}
ALL = [*(REPOSITORY / "nbs").rglob("*.ipynb")]
ONLY_IN = {"matplotlib": {"plots"}, "typer": {"cli"}, "pytorch_metric_learning": {"losses", "training"}, "seaborn": {"plots"}, "ipywidgets": {"explorer", "steps", "gallery"}, "anywidget": {"explorer", "steps", "gallery"}}


def cells(path, kind="code"):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def number(module):
    return int(NBS[module].stem.split("_")[0])


def test_each_module_has_its_notebook():
    assert set(MODULES) == set(NBS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            assert number(node.module) < number(module), f"{module} imports {node.module}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_where_they_belong(module):
    tree = ast.parse(MODULES[module].read_text())
    names = lambda nodes: {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names} | {
        n.module.split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and not n.level
    }
    anywhere, at_import = names(ast.walk(tree)), names(tree.body)
    for package, homes in ONLY_IN.items():
        assert package not in anywhere or module in homes, f"{module} imports {package}"
    assert not {"timm", "torchvision", "resvg_py", "nbdev", "fastcore"} & at_import
    assert not {"nbdev", "fastcore"} & anywhere


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_notebook_is_clean_and_readable(path):
    notebook = json.loads(path.read_text())
    assert not any(c.get("outputs") or c.get("execution_count") for c in notebook["cells"]), "strip the outputs: make export"
    assert "widgets" not in notebook["metadata"] and path.stat().st_size < 50_000
    code = [len(c.split("\n")) for c in cells(path)]
    assert max(code) <= 25 and statistics.median(code) <= 5, (max(code), statistics.median(code))
    title = cells(path, "markdown")[0]
    assert re.fullmatch(r"# [^\n]+\n\n> [^\n]+", title), f"first cell: title and one question, got {title!r}"
    if path.parent.name == "nbs" and path.stem != "index":
        assert 20 <= len(notebook["cells"]) <= 70 and title.rstrip().endswith("?")


def test_every_definition_is_documented_and_most_are_asserted():
    "Public definitions have a docstring; at least four of five are followed by an assertion within two cells."
    found, asserted, bare = 0, 0, []
    for path in NBS.values():
        code = cells(path)
        for i, cell in enumerate(code):
            if cell.startswith("#| export"):
                for node in ast.parse(cell).body:
                    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                        found += 1
                        near = any("assert" in c for c in code[i + 1 : i + 3])
                        asserted += near
                        bare += [] if near else [f"{path.stem}.{node.name}"]
                        if not node.name.startswith("_"):
                            assert ast.get_docstring(node), f"{path.stem}: {node.name} has no docstring"
    print(f"\n{asserted} of {found} exported definitions are followed by an assertion within two cells; not: {', '.join(bare)}")
    assert asserted / found > 0.8, bare


def test_links_of_the_readme_and_the_book():
    for path in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *ALL]:
        text = path.read_text() if path.suffix == ".md" else "\n".join(cells(path, "markdown"))
        for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_nothing_of_this_machine_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in files:
        path = REPOSITORY / name
        if path.suffix in (".py", ".ipynb", ".md", ".ini", ".toml", ".txt", ".json", ".csv", ".svg") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert str(REPOSITORY.parent) + "/" not in text, f"{name} holds an absolute path"
        assert not path.is_file() or path.stat().st_size < 2_000_000, name
