"The changes of tests/mutations.py fit the library; what they do takes `make mutations`."

import shutil

import pytest
from mutations import BUGS, HARMLESS, MOVED, TOGETHER, apply, restore

from diml_nb._internal.paths import REPO_ROOT

LIBRARY = REPO_ROOT / "diml_nb"


def contents(folder):
    return {path: path.read_text() for path in folder.rglob("*.py")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(LIBRARY, folder / "diml_nb", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("mutant", [*HARMLESS, *BUGS], ids=lambda mutant: mutant.name)
def test_each_text_to_replace_is_there(mutant):
    for name, edits in mutant.edits.items():
        source = (LIBRARY / name).read_text()
        assert [old for old, _ in edits if old not in source] == [], name


def test_the_function_to_move_is_there():
    assert MOVED in (LIBRARY / "features" / "backbones.py").read_text()


@pytest.mark.parametrize("mutant", [TOGETHER, *HARMLESS, *BUGS], ids=lambda mutant: mutant.name)
def test_a_change_is_undone(mutant, copy):
    before = contents(copy)
    kept = apply(mutant, copy)
    assert contents(copy) != before
    restore(kept)
    assert contents(copy) == before
