"""docs/renames.csv gives the new path of every public name that the first edition exported."""

import ast
import csv
import importlib
import subprocess

import pytest

from diml_nb._internal.paths import REPO_ROOT

FIRST_EDITION = "54bb1f609b2d005d993fd81738a905f4f29a6653"  # the last commit with the old paths


@pytest.fixture(scope="module")
def renames():
    with (REPO_ROOT / "docs" / "renames.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["old", "new"]
    return rows[1:]


def exists(path: str) -> bool:
    module, _, name = path.rpartition(".")
    return hasattr(importlib.import_module(module), name)


def test_each_new_path_exists(renames):
    assert [new for _, new in renames if not exists(new)] == []


def test_each_old_path_stands_once(renames):
    old = [old for old, _ in renames]
    assert old == sorted(set(old))


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPO_ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def test_no_name_of_the_first_edition_is_missing(renames):
    files = git("ls-tree", "-r", "--name-only", FIRST_EDITION, "diml_nb").splitlines()
    if not files:
        pytest.skip("the commit before the renaming is not in this clone")
    listed = {old for old, _ in renames}
    for file in files:
        if not file.endswith(".py") or file.endswith("_modidx.py"):
            continue
        module = file.removesuffix(".py").replace("/", ".")
        for node in ast.parse(git("show", f"{FIRST_EDITION}:{file}")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                names = [f"{module}.{name}" for name in ast.literal_eval(node.value)]
                assert [name for name in names if name not in listed and not exists(name)] == []
