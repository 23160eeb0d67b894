"""`make quick`: the tests that a change can reach, the nearest first, in less than 90 seconds.

Changed is what differs from the commit where this branch began, and files that git does not know.
A file reaches those that import it, name it, or are made from it, and they reach others in turn.
A test begins only if it can end in time; the summary names those that were left out.
"""

import argparse
import ast
import configparser
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from scheduling import HOME, cost_of_units, durations, unit

REACHED, DEADLINE = "QUICK_REACHED", "QUICK_DEADLINE"  # variables that the workers read
LAWS = "99_checks"  # asked whatever has changed
# they have a test for each notebook, or for each module
BY_PARAMETER = ("test_notebooks.py", "test_pinned.py", "test_examples.py")


def git(*words: str, home: Path = HOME) -> list[str]:
    "The lines that a git command prints; none if it fails."
    done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def branch_point(home: Path = HOME) -> str:
    "The commit where the branch left the main one; on the main one, the last that was pushed."
    for main in ("origin/HEAD", "origin/main", "main"):
        if found := git("merge-base", "HEAD", main, home=home):
            return found[0]
    return "HEAD"


def changed_files(since: str, home: Path = HOME) -> set[str]:
    "Files that differ from a commit, and those that git does not know."
    unknown = git("ls-files", "--others", "--exclude-standard", home=home)
    return {*git("diff", "--name-only", since, home=home), *unknown}


# what a file uses


def code_of(path: Path) -> list[str]:
    "The Python of a module or of a notebook, without IPython's own lines."
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [text]
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return [re.sub(r"^\s*[%!].*", "pass", "".join(cell["source"]), flags=re.M) for cell in cells]


def parsed(path: Path) -> list[ast.AST]:
    "Syntax trees of a file; cells that are no Python are left out."
    trees = []
    for code in code_of(path):
        try:
            trees.append(ast.parse(code))
        except SyntaxError:
            continue
    return trees


def imported(tree: ast.AST, package: str) -> set[str]:
    "Dotted names that a tree imports; relative ones begin at `package`."
    names = set()
    for x in ast.walk(tree):
        if isinstance(x, ast.Import):
            names |= {alias.name for alias in x.names}
        elif isinstance(x, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - x.level + 1] if x.level else []
            base = ".".join([*parts, *([x.module] if x.module else [])])
            names |= {f"{base}.{alias.name}" for alias in x.names}
    return names


def texts(tree: ast.AST) -> set[str]:
    "Text constants of a tree."
    constants = (x.value for x in ast.walk(tree) if isinstance(x, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


class Files:
    "The files of the repository, and which of them use which."

    def __init__(self, home: Path = HOME):
        self.home = home
        listed = git("ls-files", "--cached", "--others", "--exclude-standard", home=home)
        self.paths = [
            Path(name)
            for name in listed
            if (home / name).exists() and not name.endswith("_modidx.py")
        ]
        settings = configparser.ConfigParser()
        settings.read(home / "settings.ini")
        self.library = settings["DEFAULT"]["lib_name"]
        self.modules, self.exporters = {}, {}
        for path in self.paths:
            if path.suffix == ".py":
                self._add_module(path)
        command, _, target = settings["DEFAULT"]["console_scripts"].partition("=")
        self.commands = {
            command: target.partition(":")[0],
            self.library: f"{self.library}.__main__",
        }

    def _add_module(self, path: Path) -> None:
        "Its dotted name; scripts outside the library are imported by their bare name."
        parts = path.with_suffix("").parts
        if parts[0] != self.library:
            self.modules[parts[-1]] = path
            return
        self.modules[".".join(parts).removesuffix(".__init__")] = path
        for tree in parsed(self.home / path):
            for x in tree.body:
                if isinstance(x, ast.Assign) and getattr(x.targets[0], "id", "") == "__all__":
                    for name in texts(x.value):
                        self.exporters.setdefault(name, set()).add(path)

    def find(self, name: str) -> set[Path]:
        "Files that a dotted name stands for: the module, and the packages around it."
        parts, found = name.split("."), set()
        for n in range(1, len(parts) + 1):
            known = self.modules.get(".".join(parts[:n]))
            if known is None:
                if parts[: n - 1] == [self.library]:
                    # the library offers its public names without their modules
                    found |= self.exporters.get(parts[1], set())
                break
            found.add(known)
        return found

    def used_by(self, path: Path) -> set[Path]:
        "Files that a module, a notebook or a test imports, starts or names in its code."
        package = ".".join(path.with_suffix("").parts[:-1])
        names, tokens = set(), set()
        for tree in parsed(self.home / path):
            names |= imported(tree, package)
            for text in texts(tree):
                names |= self._modules_in(text)
                tokens |= set(re.findall(r"[\w.-]+", text))
        named = {
            other for other in self.paths if other.name in tokens and other.name != "__init__.py"
        }
        if path.parts[0] != self.library:  # a library that names an experiment does not run it
            notebooks = [
                other
                for other in self.paths
                if other.suffix == ".ipynb" and other.stem[0].isdigit()
            ]
            named |= {other for other in notebooks if other.stem in tokens}
        if len(path.parts) > 2:  # fixtures of its folder; those of tests/conftest.py serve all
            named |= {path.with_name("conftest.py")} & set(self.paths)
        return named.union(*map(self.find, names))

    def _modules_in(self, text: str) -> set[str]:
        "Dotted names in a text: a command, a program for another process, the target of a patch."
        names = {self.commands[text]} if text in self.commands else set()
        names |= set(re.findall(rf"\b{self.library}(?:\.\w+)+", text))
        for base, given in re.findall(rf"from ({self.library}[\w.]*) import ([\w, ]+)", text):
            names |= {f"{base}.{name.strip()}" for name in given.split(",")}
        return names

    def made_from(self, notebooks: set[Path]) -> set[Path]:
        "Modules of the library that are exported from these notebooks."
        origin = re.compile(r"File to edit: [./]*(\S+\.ipynb)")
        library = [
            path for path in self.paths if path.parts[0] == self.library and path.suffix == ".py"
        ]
        found = {
            path: origin.search((self.home / path).read_text(encoding="utf-8")) for path in library
        }
        return {path for path, match in found.items() if match and Path(match[1]) in notebooks}

    def reached(self, changed: set[str]) -> dict[str, int]:
        "Files that a change reaches, by the number of steps to it."
        users = {}
        for path in self.paths:
            if path.suffix in (".py", ".ipynb"):
                for used in self.used_by(path) - {path}:
                    users.setdefault(used, set()).add(path)
        first = {Path(name) for name in changed}
        distance = dict.fromkeys(sorted(first | self.made_from(first)), 0)
        todo = list(distance)
        for path in todo:
            for user in sorted(users.get(path, ())):
                if user not in distance:
                    distance[user] = distance[path] + 1
                    todo.append(user)
        return {path.as_posix(): steps for path, steps in distance.items()}


# the run: a plugin of pytest in each worker


@cache
def notebooks() -> dict[str, str]:
    "The notebooks of the book by their names."
    paths = (HOME / "nbs").rglob("*.ipynb")
    return {path.stem: path.relative_to(HOME).as_posix() for path in paths}


def steps_to(nodeid: str, reached: dict[str, int]) -> int | None:
    """Steps from the change to a test; those of a notebook or a module where a test has its name in
    brackets."""
    file, _, parameter = nodeid.partition("[")
    name = parameter.removesuffix("]")
    if name == LAWS:
        return 0
    if name in notebooks():
        return reached.get(notebooks()[name])
    if name.endswith(".py"):
        return reached.get(name)
    return reached.get(file.partition("::")[0])


def seconds_needed(item) -> float:
    "What a test may take; whoever made the smoke run of an experiment is not known before."
    kept = durations().get(item.nodeid, 0.1)
    return max(kept, 25) if "smoke_of" in item.fixturenames else kept


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    "Leave the tests that the change reaches, the nearest first, and of those the cheapest."
    reached = json.loads(os.environ[REACHED])
    steps = {item: steps_to(item.nodeid, reached) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if steps[item] is None])
    items[:] = [item for item in items if steps[item] is not None]
    cost, nearest = cost_of_units(item.nodeid for item in items), {}
    for item in items:
        own = unit(item.nodeid)
        nearest[own] = min(steps[item], nearest.get(own, steps[item]))
    order = {own: (nearest[own], cost[own], own) for own in nearest}
    items.sort(key=lambda item: order[unit(item.nodeid)])


given_up = set()


def pytest_runtest_setup(item):
    "Begin what can end in time; where a test was left out, the fixtures of its unit are not made."
    own, end = unit(item.nodeid), float(os.environ[DEADLINE])
    if own in given_up or time.time() + seconds_needed(item) > end:
        given_up.add(own)
        pytest.skip("left out: no time")


def pytest_terminal_summary(terminalreporter):
    "How many were left out, by file."
    skipped = terminalreporter.getreports("skipped")
    left = Counter(x.nodeid.partition("::")[0] for x in skipped if "left out" in str(x.longrepr))
    for name, count in sorted(left.items()):
        terminalreporter.line(f"left out: {count} tests of {name}")
    if left:
        terminalreporter.line(
            f"{left.total()} tests that the change reaches did not fit; make test runs them"
        )


def nearest(tests: dict[str, int], seconds: float) -> list[str]:
    "Test files by their steps: the nearest, and the next ones if those do not fill the time."
    cost = Counter()
    for nodeid, took in durations().items():
        cost[nodeid.partition("::")[0]] += took
    taken = []
    for steps in sorted(set(tests.values())):
        if sum(cost[name] for name in taken) > seconds:
            break
        taken += sorted(name for name in tests if tests[name] == steps)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--since", default=branch_point(), help="a commit; default: where this branch began"
    )
    parser.add_argument("--seconds", type=float, default=68, help="of the whole")
    parser.add_argument("--list", action="store_true", help="only say what is reached")
    given = parser.parse_args()
    end = time.time() + given.seconds
    changed = changed_files(given.since)
    if not changed:
        print(f"nothing has changed since {given.since[:8]}")
        return 0
    files = Files()
    reached = files.reached(changed)
    others = len(reached) - len(changed)
    print(f"changed since {given.since[:8]}: {len(changed)} files, which reach {others} others")
    if given.list:
        print(
            "\n".join(
                f"{steps} {name}"
                for name, steps in sorted(reached.items(), key=lambda x: (x[1], x[0]))
            )
        )
        return 0
    tests = {x.as_posix() for x in files.paths if re.fullmatch(r"test_\w+\.py", x.name)}
    tests = {name: steps for name, steps in reached.items() if name in tests}
    taken = nearest(tests, (os.cpu_count() or 1) * given.seconds)
    if far := sorted(set(tests) - set(taken)):
        print("left out, as nearer ones fill the time:", *far)
    taken += [x.as_posix() for x in files.paths if x.name in BY_PARAMETER]
    workers = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadscope"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "quick",
        "-q",
        "--no-loadscope-reorder",
        *workers,
    ]
    variables = {
        REACHED: json.dumps(reached),
        DEADLINE: str(end),
        "PYTHONPATH": os.pathsep.join([str(HOME / "tests"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [*command, *dict.fromkeys(taken)], cwd=HOME, env=os.environ | variables
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
