"The book as a site: notebooks processed by nbdev, executed once and kept, beside an API reference, given to Sphinx."
import argparse
import ast
import json
import os
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbdev.process import NBProcessor
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.cmd.build import build_main

from walk import minutes, walked

REPOSITORY = Path(__file__).resolve().parent.parent
NBS, LIBRARY, BUILD = REPOSITORY / "nbs", REPOSITORY / "diml_nb", REPOSITORY / "build" / "docs"
NOTEBOOKS = {path.relative_to(NBS).with_suffix("").as_posix(): path for path in sorted(NBS.rglob("*.ipynb")) if not {".ipynb_checkpoints", "_template.ipynb"} & set(path.parts)}
EXPERIMENTS = {name for name in NOTEBOOKS if re.match(r"reproduce/\d", name)}      # minutes to hours: shown with the figures that they have saved
PARTS = {"Begin": "0", "One pair": "1", "Many images": "2", "Learning": "3", "Seeing": "4|explore/", "Siblings": "5", "Reproduction": "6", "Experiments": "reproduce/",
         "Practice": "howto/|9|glossary", "Reference": "(?!)"}
MORE = {"Practice": ["solutions"], "Reference": ["api/index", "data/emoji/README", "data/keywords/README", "data/stamps/README"]}
READS_RECORDS = re.compile(r"find_record|answers|status\(")
WALKED = walked()
FIGURES_STAY = "import diml_nb.plots; diml_nb.plots.figure_path = lambda name, folder=None: __import__('pathlib').Path(folder or '.') / name"


def source_of(module: str) -> Path: return LIBRARY.joinpath(*module.split(".")).with_suffix(".py")


class Module:
    "A module as its source documents it: signatures with their comments, docstrings."

    def __init__(self, notebook: str, name: str):
        self.notebook, self.name = notebook, name
        source = source_of(name).read_text()
        self.tree, self.lines = ast.parse(source), source.split("\n")
        self.nodes = {name: node for node in self.tree.body for name in names_of(node)}
        self.public = ast.literal_eval(self.nodes["__all__"].value)
        self.anchors = {name: anchor(name, self.public[:i]) for i, name in enumerate(self.public)}

    def code(self, first: int, last: int) -> str: return "\n".join(self.lines[first - 1 : last])

    def head(self, node) -> str:
        "What stands before the body, decorators included; of a class also its fields and how it is made."
        first, body = min([node, *node.decorator_list], key=lambda n: n.lineno).lineno, node.body[0]
        head = "\n".join([*self.lines[first - 1 : body.lineno - 1], self.lines[body.lineno - 1][: body.col_offset]]).rstrip()
        if not isinstance(node, ast.ClassDef): return head
        fields = {self.code(n.lineno, n.end_lineno): None for n in node.body if isinstance(n, ast.AnnAssign)}
        return "\n".join([head, *fields, *(self.head(n) for n in node.body if getattr(n, "name", "") == "__init__")])

    def entry(self, node) -> str:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines = self.code(node.lineno, node.end_lineno).split("\n")
            return fenced("\n".join(lines[:8] + ["..."] * (len(lines) > 8)))
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_") and ast.get_docstring(n)]
        return "\n\n".join([fenced(self.head(node)), ast.get_docstring(node) or "", *(self.entry(m) for m in methods if isinstance(node, ast.ClassDef))])

    def page(self) -> str:
        opening = f"# diml_nb.{self.name}\n\n> {ast.get_docstring(self.tree)}\n\nWritten, explained and tested in [{self.notebook}](/{self.notebook}.ipynb)."
        return "\n\n".join([opening, *(f"## `{name}`\n\n{linked(self.entry(self.nodes[name]), but=name)}" for name in self.public)]) + "\n"


def names_of(node) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def anchor(name: str, before: list[str]) -> str:
    "As MyST numbers headings that differ in case only."
    repeated = sum(other.lower() == name.lower() for other in before)
    return name.lower() + (f"-{repeated}" if repeated else "")


def fenced(code: str) -> str:
    margin = len(code) - len(code.lstrip())
    return "```python\n" + "\n".join(line[margin:] for line in code.split("\n")) + "\n```"


MODULES = {m[1]: Module(name, m[1]) for name, path in NOTEBOOKS.items() if (m := re.search(r'"#\| default_exp ([\w.]+)"', path.read_text()))}
OWNERS = {}
for module in MODULES.values():
    for name in module.public: OWNERS.setdefault(name, []).append(module)


def linked(text: str, but: str = "") -> str:
    "Names in backticks that one module exports become links to its page; the words of the command are too common for that."
    def link(found):
        owners = OWNERS.get(found[1], [])
        if len(owners) != 1 or owners[0].name == "cli" or found[1] == but: return found[0]
        return f"[{found[0]}](/api/{owners[0].name}.md#{owners[0].anchors[found[1]]})"
    outside = re.split(r"(```.*?```|\[[^\]]*\]\([^)]*\))", text, flags=re.S)
    return "".join(part if i % 2 else re.sub(r"(?<!`)`(\w+)`(?!`)", link, part) for i, part in enumerate(outside))


def stage_links(text: str, book: Path) -> str:
    "Files beside nbs/ are copied into the book, and links to them start at its root."
    def link(found):
        if found[1] == "README.md": return "](/index.ipynb)"
        (book / found[1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / found[1], book / found[1])
        return f"](/{found[1]})"
    text = re.sub(r"\]\((?:\.\./)+((?:figures|data|diml_nb|tests)/[^)]+|README\.md)\)", link, text)
    return text.replace("](solutions)", "](solutions.md)")


def processed(name: str, book: Path):
    "A notebook without nbdev's directives: what they said is shown as a link to the module and as a mark at exported cells."
    notebook = NBProcessor(NOTEBOOKS[name]).nb
    cells = []
    for cell in notebook.cells:
        tags = [tag.replace("_", "-") for tag in cell.metadata.get("tags", [])]
        if "default_exp" in cell.directives_:
            (module,) = cell.directives_["default_exp"]
            cells.append(new_markdown_cell(f"Makes the module [`diml_nb.{module}`](/api/{module}.md); cells marked *exported* are its code."))
        elif cell.cell_type == "markdown": cells.append(new_markdown_cell(linked(stage_links(cell.source, book))))
        else:
            tags += [tag for directive, tag in dict(export="exported", hide="remove-cell").items() if directive in cell.directives_]
            cells.append(new_code_cell(cell.source, metadata=dict(tags=tags)))
    cells.insert(1, new_markdown_cell(times(name)))
    if name in EXPERIMENTS: cells[1:1], cells[len(cells):] = around_an_experiment(Path(name).stem)
    if name == "index": cells.append(new_markdown_cell(contents()))
    for i, cell in enumerate(cells): cell["id"] = f"cell-{i}"
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"), language_info=dict(name="python")))


def times(name: str) -> str:
    run = f", {WALKED[name]['seconds']:.0f} seconds to run" if name in WALKED else ""
    return f"{minutes(name):.0f} minutes to read{run}."


def around_an_experiment(name: str):
    figures = [f"![{path.stem}](/figures/{path.name})" for path in sorted((REPOSITORY / "figures").glob(f"{name}-*.png"))]
    below = " The figures that it has saved are [below](#figures)." if figures else ""
    note = f":::{{admonition}} Not run for this page\nThis notebook takes minutes to hours and stands here without outputs. What it found is in the [report](report.ipynb).{below}\n:::"
    return [new_markdown_cell(note)], [new_markdown_cell("\n\n".join(["## Figures", *figures]))] if figures else []


def contents() -> str:
    "The table of contents, which the theme shows at the side; notebooks keep their numbers."
    trees = []
    for part, belongs in PARTS.items():
        pages = [name for name in NOTEBOOKS if re.match(belongs, name)]
        entries = [f"{n} {title(NOTEBOOKS[name])} <{name}>" if (n := Path(name).stem.split("_")[0]).isdigit() else name for name in pages] + MORE.get(part, [])
        if entries: trees.append("\n".join([f"```{{toctree}}\n:hidden:\n:caption: {part}\n", *entries, "```"]))
    return "\n\n".join(trees)


def title(path: Path) -> str: return re.search(r'"# ([^"\\]+)', path.read_text())[1]


def state(paths) -> bytes:
    return b"".join(sha256(path.read_bytes()).digest() for path in sorted(paths))


def run(notebook, name: str) -> list:
    "Outputs of the code cells, executed unless they are kept: of the same code, library, versions and, where records are read, records."
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    library = [path for path in LIBRARY.rglob("*.*") if path.suffix in (".py", ".c")]
    key = sha256(json.dumps(code).encode() + state([*library, REPOSITORY / "requirements.txt"]))
    if any(READS_RECORDS.search(source) for source in code): key.update(state((REPOSITORY / "data" / "results").rglob("*.json")))
    kept = BUILD / "outputs" / f"{name.replace('/', '-')}-{key.hexdigest()[:16]}.json"
    if not kept.exists():
        print(f"running {name}", flush=True)
        with TemporaryDirectory() as folder:
            trial = nbformat.v4.new_notebook(cells=[new_code_cell(source) for source in (FIGURES_STAY, *code)])
            NotebookClient(trial, timeout=900, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": folder}}, extra_arguments=["--log-level=40"]).execute()
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps([cell.outputs for cell in trial.cells[1:]]))
        partial.replace(kept)
    return json.loads(kept.read_text())


def still(outputs: list) -> list:
    "Outputs that need no kernel: a widget has left its picture beside it; progress and warnings stay away."
    return [o for o in outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {}) and o.get("name") != "stderr"]


def stage(name: str, book: Path, execute: bool) -> None:
    notebook = processed(name, book)
    if execute:
        for cell, outputs in zip([c for c in notebook.cells if c.cell_type == "code"], run(notebook, name), strict=True):
            cell.outputs = [nbformat.from_dict(o) for o in still(outputs)]
    path = book / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def stage_reference(book: Path) -> None:
    "A page for every module, and one for all solutions."
    (book / "api").mkdir()
    for module in MODULES.values(): (book / "api" / f"{module.name}.md").write_text(module.page())
    rows = [f"| [{m.name}](/api/{m.name}.md) | {ast.get_docstring(m.tree)} |" for m in MODULES.values()]
    tree = "\n".join(["```{toctree}\n:hidden:\n", *MODULES, "```"])
    (book / "api" / "index.md").write_text("\n".join(["# Modules\n", "| module | question |\n| --- | --- |", *rows, "", tree, ""]))
    solutions = [f"## {p.stem}\n\n```python\n{p.read_text()}```\n" for p in sorted((NBS / "solutions").glob("*.py"))]
    (book / "solutions.md").write_text("\n".join(["# Solutions\n\nOf the [exercises](/90_exercises.ipynb).\n", *solutions]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="the folder to make")
    parser.add_argument("--execute", nargs="*", metavar="NOTEBOOK", default=[n for n in NOTEBOOKS if n not in EXPERIMENTS], help="only these; default: all but the experiments")
    parser.add_argument("--book", type=Path, default=BUILD / "book", help="where the sources of the site are staged")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that are executed at once")
    options = parser.parse_args()
    os.environ |= {"DIML_QUIET": "1"}
    shutil.rmtree(options.book, ignore_errors=True)
    shutil.copytree(REPOSITORY / "figures", options.book / "figures")
    stage_reference(options.book)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        work = [pool.submit(stage, name, options.book, name in options.execute) for name in NOTEBOOKS]
        try: [done.result() for done in as_completed(work)]
        finally: pool.shutdown(cancel_futures=True)
    made = options.book.with_name("html")                # beside it Sphinx leaves what is no part of the site
    shutil.rmtree(made, ignore_errors=True)
    failed = build_main(["-q", "-W", "--keep-going", "-E", "-j", "auto", "-c", str(REPOSITORY / "docs"), "-d", str(made.with_name("doctrees")), str(options.book), str(made)])
    shutil.rmtree(options.site, ignore_errors=True)
    shutil.move(made, options.site)
    return failed


if __name__ == "__main__":
    sys.exit(main())
