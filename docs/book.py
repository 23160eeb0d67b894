"""The book as a site: notebooks processed by nbdev, executed once and kept, beside an API
reference, given to Sphinx.

`python docs/book.py _docs` makes the folder _docs anew. It replaces a folder only if that is
empty or was made by it.
"""

import argparse
import ast
import html
import json
import os
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import own_pictures
from nbclient import NotebookClient
from nbdev.process import NBProcessor
from nbformat.v4 import new_code_cell, new_markdown_cell
from numpydoc.docscrape import NumpyDocString
from sphinx.cmd.build import build_main
from walk import WAYS, minutes, walked

from diml_nb._internal.paths import atomic_write, hash_file, hash_text
from diml_nb.records.provenance import digest, source_of
from diml_nb.viz.html import content_policy, inline_hashes

REPOSITORY = Path(__file__).resolve().parent.parent
NBS, LIBRARY, BUILD = REPOSITORY / "nbs", REPOSITORY / "diml_nb", REPOSITORY / "build" / "docs"
NOTEBOOKS = {
    path.relative_to(NBS).with_suffix("").as_posix(): path
    for path in sorted(NBS.rglob("*.ipynb"))
    if not {".ipynb_checkpoints", "_template.ipynb"} & set(path.parts)
}
PAGES = {
    path.relative_to(NBS).with_suffix("").as_posix(): path for path in sorted(NBS.rglob("[!.]*.md"))
} | {"known": REPOSITORY / "docs" / "known.md"}  # as they are
EXPERIMENTS = {
    name for name in NOTEBOOKS if re.match(r"reproduce/\d", name)
}  # minutes to hours: shown with the figures that they have saved
PARTS = {
    "All chapters": "contents",
    "Practice": "howto/|9|glossary",
    "Results": "results|known|reproduce/",
    "Foundations": "0(?!9)",
    "One pair": "09|1(?!9_files)",
    "Many images": "19_files|2",
    "Learning": "3",
    "Seeing": "4(?![89])|explore/",
    "Your own images": "4[89]",
    "Related systems": "5[0-8]",
    "Reproduction": "59|6",
    "Reference": "(?!)",
}
MORE = {
    "Practice": ["solutions"],
    "Reference": [
        "api/index",
        "data/emoji/README",
        "data/keywords/README",
        "data/stamps/README",
        "data/photographs/README",
    ],
}
READS_THE_REPOSITORY = re.compile(
    r"REPO_ROOT|find_record|load_record|evaluate_claims|status\(|ledger|subprocess|CliRunner|inspect\.|"
    r"import diml_nb\b"
)
PAGES_OF_FILES = {
    "README.md": "index.ipynb",
    "RESULTS.md": "results.ipynb",
    "docs/known.md": "known.md",
}
OWN_PICTURES = "47_own_pictures"  # the chapter on a page that is no notebook
WALKED = walked()
FIGURES_STAY = (
    "import diml_nb.viz.figures; diml_nb.viz.figures.figure_path = lambda name, folder=None:"
    " __import__('pathlib').Path(folder or '.') / name"
)


MARK = ".diml_nb-site"


def path_of(module: str) -> Path:
    "The source of a module, e.g. of records.record."
    return LIBRARY.joinpath(*module.split(".")).with_suffix(".py")


class Module:
    "A module as its source documents it: signatures with their comments, docstrings."

    def __init__(self, notebook: str, name: str):
        self.notebook, self.name = notebook, name
        source = path_of(name).read_text()
        self.tree, self.lines = ast.parse(source), source.split("\n")
        self.nodes = {name: node for node in self.tree.body for name in names_of(node)}
        everything = ast.literal_eval(self.nodes["__all__"].value)
        self.public = [name for name in everything if name in self.nodes]  # not what it hands on
        self.anchors = {name: anchor(name, self.public[:i]) for i, name in enumerate(self.public)}

    def code(self, first: int, last: int) -> str:
        return "\n".join(self.lines[first - 1 : last])

    def head(self, node) -> str:
        """What stands before the body, decorators included; of a class also its fields and how it
        is made."""
        first, body = min([node, *node.decorator_list], key=lambda n: n.lineno).lineno, node.body[0]
        head = "\n".join(
            [
                *self.lines[first - 1 : body.lineno - 1],
                self.lines[body.lineno - 1][: body.col_offset],
            ]
        ).rstrip()
        if not isinstance(node, ast.ClassDef):
            return head
        fields = {
            self.code(n.lineno, n.end_lineno): None
            for n in node.body
            if isinstance(n, ast.AnnAssign)
        }
        return "\n".join(
            [
                head,
                *fields,
                *(self.head(n) for n in node.body if getattr(n, "name", "") == "__init__"),
            ]
        )

    def entry(self, node) -> str:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines = self.code(node.lineno, node.end_lineno).split("\n")
            return fenced("\n".join(lines[:8] + ["..."] * (len(lines) > 8)))
        methods = [
            n
            for n in node.body
            if isinstance(n, ast.FunctionDef)
            and not n.name.startswith("_")
            and ast.get_docstring(n)
        ]
        return "\n\n".join(
            [
                fenced(self.head(node)),
                docstring_markdown(ast.get_docstring(node) or ""),
                *(self.entry(m) for m in methods if isinstance(node, ast.ClassDef)),
            ]
        )

    def page(self) -> str:
        opening = (
            f"# diml_nb.{self.name}\n\n> {ast.get_docstring(self.tree)}\n\nWritten, explained and"
            f" tested in [{self.notebook}](/{self.notebook}.ipynb)."
        )
        return (
            "\n\n".join(
                [
                    opening,
                    *(
                        f"## `{name}`\n\n{linked(self.entry(self.nodes[name]), but={name})}"
                        for name in self.public
                    ),
                ]
            )
            + "\n"
        )


def docstring_markdown(text: str) -> str:
    "A numpydoc docstring as Markdown: its sections as lists, its examples as code."
    doc = NumpyDocString(text)
    parts = ["\n".join(doc["Summary"]), "\n".join(doc["Extended Summary"])]
    for section in ("Parameters", "Attributes", "Returns", "Yields", "Raises"):
        if doc[section]:
            parts.append(f"**{section}**")
            parts.append("\n".join(map(list_item, doc[section])))
    for section in ("Notes", "References", "See Also"):
        if doc[section]:
            body = doc[section] if section != "See Also" else see_also(doc[section])
            parts += [f"**{section}**", "\n".join(body)]
    if doc["Examples"]:
        blocks = "\n".join(doc["Examples"]).strip("\n").split("\n\n")
        sessions = (b if not b.startswith(">>>") else f"```pycon\n{b}\n```" for b in blocks)
        parts += ["**Examples**", *sessions]
    return "\n\n".join(part for part in parts if part)


def list_item(parameter) -> str:
    "One parameter, result or error as an item of a list."
    name, kind = parameter.name, parameter.type
    head = ", ".join([f"`{name}`"] * bool(name) + [kind.replace("*", r"\*")] * bool(kind))
    return f"- {head}: {' '.join(line.strip() for line in parameter.desc)}"


def see_also(entries) -> list[str]:
    return [", ".join(f"`{name}`" for names, _ in entries for name, _ in names)]


def names_of(node) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def anchor(name: str, before: list[str]) -> str:
    "As MyST numbers headings that differ in case only."
    repeated = sum(other.lower() == name.lower() for other in before)
    return name.lower() + (f"-{repeated}" if repeated else "")


def fenced(code: str) -> str:
    margin = len(code) - len(code.lstrip())
    return "```python\n" + "\n".join(line[margin:] for line in code.split("\n")) + "\n```"


MODULES = {
    m[1]: Module(name, m[1])
    for name, path in NOTEBOOKS.items()
    if (m := re.search(r'"#\| default_exp ([\w.]+)"', path.read_text()))
}
OWNERS = {}
for module in MODULES.values():
    for name in module.public:
        OWNERS.setdefault(name, []).append(module)


def linked(text: str, but: set[str] = frozenset()) -> str:
    """Names in backticks that one module exports become links to its page; the words of the command
    are too common for that."""

    def link(found):
        owners = OWNERS.get(found[1], [])
        if len(owners) != 1 or owners[0].name.startswith("cli.") or found[1] in but:
            return found[0]
        return f"[{found[0]}](/api/{owners[0].name}.md#{owners[0].anchors[found[1]]})"

    outside = re.split(r"(```.*?```|\[[^\]]*\]\([^)]*\))", text, flags=re.S)
    return "".join(
        part if i % 2 else re.sub(r"(?<!`)`(\w+)`(?!`)", link, part)
        for i, part in enumerate(outside)
    )


def own_words(name: str, code: list[str]) -> set[str]:
    """Names that a notebook gives to things of its own: where it speaks of them, it does not mean
    what a module exports."""
    given, imported = set(), set()
    for node in (node for cell in code for node in ast.walk(ast.parse(cell))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            given.add(node.name)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.add(node.id)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diml_nb"):
            imported |= {alias.asname or alias.name for alias in node.names}
    exported = {
        word for module in MODULES.values() if module.notebook == name for word in module.public
    }
    return given - imported - exported


def stage_links(text: str, book: Path) -> str:
    "Files beside nbs/ are copied into the book, and links to them start at its root."

    def link(found):
        if found[1] in PAGES_OF_FILES:
            return f"](/{PAGES_OF_FILES[found[1]]})"
        (book / found[1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / found[1], book / found[1])
        return f"](/{found[1]})"

    files = r"(?:figures|data|diml_nb|tests)/[^)]+|README\.md|RESULTS\.md|docs/known\.md"
    text = re.sub(rf"\]\((?:\.\./)+({files})\)", link, text)
    return text.replace("](solutions)", "](solutions.md)")


def processed(name: str, book: Path):
    """A notebook without nbdev's directives: what they said is shown as a link to the module and as
    a mark at exported cells."""
    notebook = NBProcessor(NOTEBOOKS[name]).nb
    own = own_words(name, [cell.source for cell in notebook.cells if cell.cell_type == "code"])
    cells = []
    for cell in notebook.cells:
        tags = [tag.replace("_", "-") for tag in cell.metadata.get("tags", [])]
        if "default_exp" in cell.directives_:
            (module,) = cell.directives_["default_exp"]
            cells.append(
                new_markdown_cell(
                    f"Makes the module [`diml_nb.{module}`](/api/{module}.md); cells marked"
                    " *exported* are its code."
                )
            )
        elif cell.cell_type == "markdown":
            cells.append(new_markdown_cell(linked(stage_links(cell.source, book), own)))
        else:
            tags += [
                tag
                for directive, tag in dict(export="exported", hide="remove-cell").items()
                if directive in cell.directives_
            ]
            cells.append(new_code_cell(cell.source, metadata=dict(tags=tags)))
    cells.insert(1, new_markdown_cell(times(name)))
    if name in EXPERIMENTS:
        cells[1:1], cells[len(cells) :] = around_an_experiment(Path(name).stem)
    if name == OWN_PICTURES:
        cells.insert(2, new_markdown_cell(own_pictures_note()))
    if name == "index":
        cells.append(new_markdown_cell(contents()))
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata=dict(
            kernelspec=dict(name="python3", display_name="Python 3", language="python"),
            language_info=dict(name="python"),
        ),
    )


def times(name: str) -> str:
    run = f", {WALKED[name]['seconds']:.0f} seconds to run" if name in WALKED else ""
    read = round(minutes(name))
    return f"{read} minute{'s' * (read != 1)} to read{run}."


def around_an_experiment(name: str):
    figures = [
        f"![{path.stem}](/figures/{path.name})"
        for path in sorted((REPOSITORY / "figures").glob(f"{name}-*.png"))
    ]
    below = " The figures that it has saved are [below](#figures)." if figures else ""
    note = (
        ":::{admonition} Not run for this page\nThis notebook takes minutes to hours and stands"
        f" here without outputs. What it found is in the [report](report.ipynb).{below}\n:::"
    )
    return [new_markdown_cell(note)], (
        [new_markdown_cell("\n\n".join(["## Figures", *figures]))] if figures else []
    )


def own_pictures_note() -> str:
    "Where the page is that the chapter explains, or why the site is without it."
    if reason := own_pictures.missing():
        return f":::{{admonition}} Not on this site\nThe page was left out; it needs {reason}.\n:::"
    link = '<a href="own_pictures/index.html">Match two pictures of your own</a>'
    return f":::{{admonition}} On this site\n{link}, in the page: they stay on your machine.\n:::"


def contents() -> str:
    """The table of contents, which the theme shows at the side: first the chapters of a student in
    their order, then all others by topic; notebooks keep their numbers."""
    trees = []
    first, second, _ = WAYS.values()
    parts = {"Course: one score": first, "Course: train, search, ask": second} | {
        part: [
            name
            for name in (*NOTEBOOKS, *PAGES)
            if re.match(belongs, name) and name not in {*first, *second}
        ]
        for part, belongs in PARTS.items()
    }
    for part, pages in parts.items():
        entries = [
            (
                f"{n} {title(NOTEBOOKS[name])} <{name}>"
                if (n := Path(name).stem.split("_")[0]).isdigit()
                else name
            )
            for name in pages
        ] + MORE.get(part, [])
        if entries:
            trees.append(
                "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {part}\n", *entries, "```"])
            )
    return "\n\n".join(trees)


def title(path: Path) -> str:
    return re.search(r'"# ([^"\\]+)', path.read_text())[1]


def made_of(code: list[str]) -> dict[str, str]:
    """What decides about the outputs of code cells: fingerprints of the code, of what it reaches,
    of versions, and of all that it may read."""
    parts = source_of(code) | {"text": hash_text(json.dumps(code))}
    paths = [REPOSITORY / "requirements.txt", *(LIBRARY / "viz" / "static").iterdir()]
    if READS_THE_REPOSITORY.search("\n".join(code)):
        paths += [path for path in LIBRARY.rglob("*.*") if path.suffix in (".py", ".c", ".h")]
        paths += [*REPOSITORY.glob("bench/*.py"), *REPOSITORY.glob("docs/*.py")]
        paths += [REPOSITORY / "Makefile", *(REPOSITORY / "nbs").rglob("*.ipynb")]
        paths += (REPOSITORY / "nbs").rglob("*.md")
        for folder in ("results", "golden"):
            paths += (REPOSITORY / "data" / folder).rglob("*.json")
    return parts | {path.relative_to(REPOSITORY).as_posix(): hash_file(path) for path in paths}


def run(notebook, name: str) -> list:
    """Outputs of the code cells, executed unless they are kept: those of the same code, library,
    versions and records."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    kept = BUILD / "outputs" / f"{name.replace('/', '-')}-{digest(made_of(code))}.json"
    if not kept.exists():
        print(f"running {name}", flush=True)
        with TemporaryDirectory() as folder:
            trial = nbformat.v4.new_notebook(
                cells=[new_code_cell(source) for source in (FIGURES_STAY, *code)]
            )
            NotebookClient(
                trial,
                timeout=900,
                kernel_name="python3",
                coalesce_streams=True,
                resources={"metadata": {"path": folder}},
                extra_arguments=["--log-level=40"],
            ).execute()
        with atomic_write(kept) as partial:
            partial.write_text(json.dumps([cell.outputs for cell in trial.cells[1:]]))
    return json.loads(kept.read_text())


def still(outputs: list) -> list:
    """Outputs that need no kernel: a widget has left its picture beside it; progress and warnings
    stay away."""
    return [
        o
        for o in outputs
        if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
        and o.get("name") != "stderr"
    ]


def stage(name: str, book: Path, execute: bool) -> None:
    notebook = processed(name, book)
    if execute:
        for cell, outputs in zip(
            [c for c in notebook.cells if c.cell_type == "code"], run(notebook, name), strict=True
        ):
            cell.outputs = [nbformat.from_dict(o) for o in still(outputs)]
    path = book / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def stage_pages(book: Path) -> None:
    "Pages that are no notebooks."
    for name, path in PAGES.items():
        target = book / f"{name}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(linked(stage_links(path.read_text(encoding="utf-8"), book)))


def order_of(package: str) -> int:
    "Where a package stands in the list of the first page of 99_checks: lowest first."
    text = NOTEBOOKS["99_checks"].read_text(encoding="utf-8")
    written = re.search(r"PACKAGES = \((.*?)\)\.split", text, re.S)[1]
    order = "".join(re.findall(r'\\"([^"\\]+)\\"', written)).split()
    return order.index(package.partition(".")[0] or "cli")


def package_docstring(package: str) -> str:
    path = LIBRARY.joinpath(*package.split("."), "__init__.py")
    return summary(ast.parse(path.read_text(encoding="utf-8")))


def summary(tree: ast.Module) -> str:
    "The first paragraph of a module's docstring, on one line."
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def stage_reference(book: Path) -> None:
    "A page for every module, and one for all solutions."
    (book / "api").mkdir()
    for module in MODULES.values():
        (book / "api" / f"{module.name}.md").write_text(module.page())
    packages: dict[str, list[Module]] = {}
    for module in sorted(MODULES.values(), key=lambda m: m.name):
        packages.setdefault(module.name.rpartition(".")[0], []).append(module)
    lines = ["# API reference"]
    for package in sorted(packages, key=order_of):
        lines += ["", f"## `{package or 'diml_nb'}`", "", package_docstring(package), ""]
        lines += ["| module | contents |", "| --- | --- |"]
        lines += [
            f"| [{m.name}](/api/{m.name}.md) | {summary(m.tree)} |" for m in packages[package]
        ]
    tree = "\n".join(["```{toctree}\n:hidden:\n", *sorted(MODULES), "```"])
    (book / "api" / "index.md").write_text("\n".join([*lines, "", tree, ""]))
    solutions = [
        f"## {p.stem}\n\n```python\n{p.read_text()}```\n"
        for p in sorted((NBS / "solutions").glob("*.py"))
    ]
    (book / "solutions.md").write_text(
        "\n".join(["# Solutions\n\nOf the [exercises](/90_exercises.ipynb).\n", *solutions])
    )


def why_not(folder: Path) -> str:
    "Why a folder must not be replaced; empty if it is not there, holds nothing, or was made here."
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return f"{folder} is a file"
    if (folder / MARK).is_file() or not any(folder.iterdir()):
        return ""
    return (
        f"{folder} holds files and was not made by this program: name another folder, or move it"
        " away"
    )


def clear(folder: Path) -> None:
    "Remove a folder that was made here; `FileExistsError` for any other."
    if reason := why_not(folder):
        raise FileExistsError(reason)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)


def mark(folder: Path) -> None:
    "Say in a folder that it was made here."
    folder.mkdir(exist_ok=True)
    (folder / MARK).write_text(
        "Made by docs/book.py of diml_nb. Its next run replaces this folder and all that is in"
        " it.\n"
    )


def stage_notebooks(book: Path, execute: list[str], jobs: int) -> None:
    "Stage all notebooks, `jobs` at a time; the first error ends it."
    if jobs == 1:
        for name in NOTEBOOKS:
            stage(name, book, name in execute)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        work = [pool.submit(stage, name, book, name in execute) for name in NOTEBOOKS]
        try:
            for done in as_completed(work):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def policy_of(page: str) -> str:
    """The content security policy of a page: its own files and the scripts that stand in it, also
    those in its frames, and nothing from elsewhere. MathJax and the theme write styles."""
    frames = [html.unescape(text) for text in re.findall(r'srcdoc="([^"]*)"', page)]
    own, data = "'self'", "'self' data:"
    return content_policy(
        dict(script=inline_hashes(page, *frames)["script"]),
        default_src=own,  # Firefox fetches the next page ahead
        object_src="'none'",
        script_src=own,
        style_src="'self' 'unsafe-inline'",
        img_src=data,
        font_src=data,
        connect_src=own,
        form_action=own,
    )


def seal_pages(made: Path) -> None:
    "Write into each page what it may load and run."
    for path in made.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        meta = f'<meta http-equiv="Content-Security-Policy" content="{policy_of(page)}">'
        sealed = re.sub(r"<head>", f"<head>\n{meta}", page, count=1)
        path.write_text(sealed, encoding="utf-8")


def build(site: Path, book: Path, execute: list[str], jobs: int) -> int:
    """Stage the sources in one folder, make the site of them in another; 0 if Sphinx had nothing to
    say."""
    clear(book)
    mark(book)
    shutil.copytree(REPOSITORY / "figures", book / "figures")
    stage_reference(book)
    stage_pages(book)
    stage_notebooks(book, execute, jobs)
    with TemporaryDirectory(
        dir=book.parent, prefix="sphinx-"
    ) as place:  # what is no part of the site stays there
        made, trees = Path(place) / "html", Path(place) / "doctrees"
        failed = build_main(
            [
                "-q",
                "-W",
                "--keep-going",
                "-E",
                "-j",
                "auto",
                "-c",
                str(REPOSITORY / "docs"),
                "-d",
                str(trees),
                str(book),
                str(made),
            ]
        )
        if not (made / "index.html").exists():
            return failed or 1  # Sphinx has said why; the old site stays
        seal_pages(made)
        if not own_pictures.missing():
            back = f'<a href="../{OWN_PICTURES}.html">How this page works</a>'
            own_pictures.write_page(made / "own_pictures", BUILD, back)
        mark(made)
        clear(site)
        shutil.move(made, site)
    return failed


def options_of() -> argparse.Namespace:
    "The options of the command line; what cannot be done is said before anything is."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", type=Path, help="the folder to make")
    parser.add_argument(
        "--execute",
        nargs="*",
        metavar="NOTEBOOK",
        default=[n for n in NOTEBOOKS if n not in EXPERIMENTS],
        help="only these; default: all but the experiments",
    )
    parser.add_argument(
        "--book", type=Path, default=BUILD / "book", help="where the sources of the site are staged"
    )
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that are executed at once")
    options = parser.parse_args()
    options.site, options.book = (
        path.expanduser().resolve() for path in (options.site, options.book)
    )
    reasons = [why_not(options.site), why_not(options.book)]
    if options.site.is_relative_to(options.book) or options.book.is_relative_to(options.site):
        reasons.append(
            f"the site {options.site} and --book {options.book} must not lie in each other"
        )
    if unknown := [name for name in options.execute if name not in NOTEBOOKS]:
        reasons.append(f"--execute: there is no notebook {', '.join(unknown)}")
    if options.jobs < 1:
        reasons.append(f"--jobs: expected at least 1, got {options.jobs}")
    if reason := next(filter(None, reasons), ""):
        parser.exit(2, f"book.py: {reason}\n")
    return options


def main() -> int:
    options = options_of()
    os.environ |= {"DIML_QUIET": "1", "DIML_WITHOUT_KERNEL": "1"}
    return build(options.site, options.book, options.execute, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
