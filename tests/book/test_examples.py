"""The examples in the docstrings of the library, each as it stands there."""

import doctest
import importlib
import shutil

import pytest
from small_runs import short_run

from diml_nb._internal.paths import REPO_ROOT

# by their paths, so that `make quick` knows which module a test is of
MODULES = [
    path.relative_to(REPO_ROOT).as_posix()
    for path in sorted((REPO_ROOT / "diml_nb").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", MODULES)
def test_examples(path, tmp_path, tmp_path_factory, monkeypatch, capsys):
    "In an empty folder with the run that the examples of trained networks name."
    monkeypatch.chdir(tmp_path)
    if "runs/heads" in (REPO_ROOT / path).read_text(encoding="utf-8"):
        shutil.copytree(short_run(tmp_path_factory), "runs/heads")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed, capsys.readouterr().out
