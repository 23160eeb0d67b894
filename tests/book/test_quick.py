"`make quick`: what a change reaches in a small repository, and what a run leaves out."

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import quick
import scheduling

FILES = {
    "settings.ini": "[DEFAULT]\nlib_name = lib\nconsole_scripts = libby=lib.cli:app",
    "lib/__init__.py": "LAZY = {'g': 'deep.b'}",
    "lib/__main__.py": "from lib.cli import app",
    "lib/a.py": "# File to edit: ../nbs/10_a.ipynb.\n__all__ = ['f']\ndef f(): open('fast.c')",
    "lib/fast.c": "int f;",
    "lib/cli.py": "def app():\n    from .deep import b",
    "lib/deep/__init__.py": "",
    "lib/deep/b.py": "__all__ = ['g']\ndef g():\n    from ..a import f",
    "lib/alone.py": "import os",
    "tests/test_a.py": "from lib import f",
    "tests/test_b.py": "from lib.deep import b",
    "tests/test_command.py": "import subprocess\nsubprocess.run(['libby'])",
    "tests/test_program.py": "CODE = '''if True:\n    from lib import alone, a'''",
    "tests/test_experiment.py": "run('20_first')",
    "tests/helper.py": "from lib import alone",
    "tests/test_helped.py": "from helper import x",
    "tests/deep/conftest.py": "from helper import x",
    "tests/deep/test_fixture.py": "def test_it(x): pass",
}


def notebook(*cells):
    return json.dumps(dict(cells=[dict(cell_type="code", source=[cell]) for cell in cells]))


@pytest.fixture
def repository(tmp_path):
    "A library with a program in C, two notebooks and some tests, all of it committed."
    books = {
        "10_a": notebook("f = 1"),
        "20_first": notebook("%matplotlib inline\nimport lib.alone", "no python"),
    }
    for name, text in (FILES | {f"nbs/{name}.ipynb": text for name, text in books.items()}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    me = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *me, *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    "changed, steps",
    [
        (
            "lib/fast.c",
            {
                "lib/a.py": 1,
                "lib/deep/b.py": 2,
                "tests/test_a.py": 2,
                "tests/test_program.py": 2,
                "lib/cli.py": 3,
                "tests/test_b.py": 3,
                "lib/__main__.py": 4,
                "tests/test_command.py": 4,
            },
        ),
        (
            "nbs/10_a.ipynb",
            {
                "lib/a.py": 0,
                "tests/test_a.py": 1,
                "lib/deep/b.py": 1,
                "tests/test_program.py": 1,
                "lib/cli.py": 2,
                "tests/test_b.py": 2,
                "lib/__main__.py": 3,
                "tests/test_command.py": 3,
            },
        ),
        (
            "lib/alone.py",
            {
                "nbs/20_first.ipynb": 1,
                "tests/helper.py": 1,
                "tests/test_program.py": 1,
                "tests/test_experiment.py": 2,
                "tests/test_helped.py": 2,
                "tests/deep/conftest.py": 2,
                "tests/deep/test_fixture.py": 3,
            },
        ),
        ("tests/test_b.py", {}),
    ],
)
def test_a_change_reaches_who_uses_it(repository, changed, steps):
    assert quick.Files(repository).reached({changed}) == {changed: 0} | steps


def test_what_has_changed(repository):
    "Committed on the branch, edited and new files; not what the main branch holds."
    assert quick.changed_files(quick.branch_point(repository), repository) == set()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "checkout", "-q", "-b", "work"], cwd=repository, check=True)
    (repository / "lib" / "a.py").write_text("f = 2")
    subprocess.run([*git, "commit", "-q", "-a", "-m", "second"], cwd=repository, check=True)
    (repository / "lib" / "cli.py").write_text("")
    (repository / "tests" / "test_new.py").write_text("")
    expected = {"lib/a.py", "lib/cli.py", "tests/test_new.py"}
    assert quick.changed_files(quick.branch_point(repository), repository) == expected


def test_a_test_of_a_module_is_as_near_as_the_module():
    reached = {"diml_nb/ot/cost.py": 1}
    test = "tests/book/test_examples.py::test_examples"
    assert quick.steps_to(f"{test}[diml_nb/ot/cost.py]", reached) == 1
    assert quick.steps_to(f"{test}[diml_nb/ot/pair.py]", reached) is None


def test_a_test_of_a_notebook_is_as_near_as_the_notebook():
    reached = {"nbs/12_cost.ipynb": 3, "tests/test_notebooks.py": 1, "tests/test_cost.py": 2}
    assert quick.steps_to("tests/test_notebooks.py::test_notebook[12_cost]", reached) == 3
    assert quick.steps_to("tests/test_notebooks.py::test_notebook[16_sinkhorn]", reached) is None
    assert quick.steps_to("tests/test_notebooks.py::test_notebook[99_checks]", reached) == 0
    assert quick.steps_to("tests/test_notebooks.py::test_all_are_found", reached) == 1
    assert quick.steps_to("tests/test_cost.py::test_size[3]", reached) == 2
    assert quick.steps_to("tests/test_view.py::test_size", reached) is None


TESTS = """
import pytest

@pytest.fixture(scope="module")
def costly(): return 1

def test_alone(): pass
def test_first(costly): pass
def test_second(costly): pass
"""


@pytest.fixture
def run(tmp_path):
    "Run three tests of a file with so many seconds left, and one that the change does not reach."
    tests = tmp_path / "tests"
    tests.mkdir()
    for path in (quick.__file__, scheduling.__file__):
        shutil.copy(path, tests)
    (tests / "test_some.py").write_text(TESTS)
    (tests / "test_other.py").write_text("def test_x(): pass")

    def get(seconds):
        variables = {
            quick.REACHED: json.dumps({"tests/test_some.py": 1}),
            quick.DEADLINE: str(time.time() + seconds),
            "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, "-m", "pytest", "-p", "quick", "-q", "--rootdir", ".", "tests"]
        options = dict(cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True)
        return subprocess.run(command, **options).stdout

    return get


def test_what_is_reached_runs(run):
    assert "3 passed, 1 deselected" in run(60)


def test_what_does_not_fit_is_named(run):
    said = run(-60)
    assert "3 skipped, 1 deselected" in said
    assert "left out: 3 tests of tests/test_some.py" in said


def test_far_files_are_not_opened_when_near_ones_fill_the_time(monkeypatch):
    seconds = {"tests/test_a.py::test_x": 30.0, "tests/test_a.py::test_y": 40.0}
    monkeypatch.setattr(quick, "durations", lambda: seconds)
    tests = {"tests/test_a.py": 1, "tests/test_b.py": 1, "tests/test_far.py": 2}
    assert quick.nearest(tests, 60) == ["tests/test_a.py", "tests/test_b.py"]
    assert quick.nearest(tests, 80) == ["tests/test_a.py", "tests/test_b.py", "tests/test_far.py"]


def test_who_shares_a_fixture_of_a_file_is_one_unit(run, monkeypatch, tmp_path):
    monkeypatch.setattr(scheduling, "HOME", tmp_path)
    tests = [f"tests/test_some.py::test_{name}" for name in ("alone", "first", "second[1]")]
    units = ["tests/test_some.py::test_alone", "tests/test_some.py", "tests/test_some.py"]
    assert [scheduling.unit(name) for name in tests] == units
