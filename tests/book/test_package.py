"""A wheel in an environment that holds only what it declares: no nbdev, no fastcore, no papermill,
no repository."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from diml_nb._internal.paths import REPO_ROOT


def closure(requirements):
    "Names of the distributions that these requirements need here, their own needs included."
    todo, found = [Requirement(r) for r in requirements], {}
    while todo:
        requirement = todo.pop()
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)
        ):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = distribution(name)
            todo += [Requirement(r) for r in found[name].requires or []]
    return found


def outside():
    "The environment without what would show a fresh Python this checkout."
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DIML"))}


@pytest.fixture(scope="module")
def wheel_environment(tmp_path_factory):
    """Python of a fresh environment with the wheel. The declared requirements, and only those, are
    linked from this environment, since installing PyTorch a second time would take minutes and six
    gigabytes."""
    folder = tmp_path_factory.mktemp("package")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(folder),
            str(REPO_ROOT),
        ],
        check=True,
    )
    (wheel,) = folder.glob("diml_nb-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as z:
        (metadata,) = [n for n in z.namelist() if n.endswith(".dist-info/METADATA")]
        lines = z.read(metadata).decode().splitlines()
    needs = [
        line.removeprefix("Requires-Dist: ")
        for line in lines
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    for found in closure(needs).values():
        for top in {Path(str(f)).parts[0] for f in found.files if not str(f).startswith("..")}:
            if not (site / top).exists():
                os.symlink(Path(found.locate_file(top)), site / top)
    return python, wheel


def run(program, *words):
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, cwd="/", env=outside()
    )


def test_contents(wheel_environment):
    with zipfile.ZipFile(wheel_environment[1]) as z:
        names = z.namelist()
    sources = ("ot/pair.c", "retrieval/topk.c", "retrieval/scan.c", "_internal/simd.h")
    compiled = {f"diml_nb/{name}" for name in sources}
    assert compiled <= set(names)
    assert "diml_nb/ot/matching.py" in names
    assert not any(n.startswith(("nbs/", "tests/", "data/")) for n in names)
    static = REPO_ROOT / "diml_nb" / "viz" / "static"
    files = {
        f"diml_nb/viz/static/{path.name}"
        for path in static.iterdir()
        if path.suffix in (".js", ".css", ".html")
    }
    assert len(files) > 10
    assert files == {name for name in names if "/static/" in name}


def test_every_module_imports_without_development_packages(wheel_environment):
    modules = sorted(
        ".".join(p.relative_to(REPO_ROOT).with_suffix("").parts)
        for p in (REPO_ROOT / "diml_nb").rglob("[a-z]*.py")
    )
    absent = ["nbdev", "fastcore", "execnb", "papermill", "jupyterlab", "pytest", "ot", "resvg_py"]
    code = (
        f"import importlib, importlib.util\nfor m in {modules}:"
        f" importlib.import_module(m)\nprint([m for m in {absent} if"
        " importlib.util.find_spec(m)])\nimport diml_nb; print(diml_nb.__file__)"
    )
    done = run(wheel_environment[0], "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    absent_found, place = done.stdout.splitlines()
    assert absent_found == "[]"
    assert str(wheel_environment[0].parent.parent) in place


def test_command(wheel_environment):
    done = run(wheel_environment[0].with_name("diml"), "--help")
    assert done.returncode == 0, done.stderr
    assert "reproduce" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words,message",
    [
        (["data", "list"], "the data live in the repository"),
        (["reproduce"], "clone the repository"),
    ],
)
def test_what_lives_in_the_repository_is_asked_for(wheel_environment, words, message):
    done = run(wheel_environment[0].with_name("diml"), *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_pages_and_widgets_find_their_scripts_there(wheel_environment):
    code = """
import torch
from PIL import Image
from diml_nb import export_html, grid_features, match
from diml_nb.viz.widgets.pair import PairView
from diml_nb.viz.widgets.ranking import RankingView
from diml_nb.viz.widgets.sinkhorn import SinkhornView
for view in (PairView(), RankingView(), SinkhornView()):
    assert 'createNode' in str(view._esm) and '.diml-' in str(view._css)
image, x = Image.new('RGB', (8, 8)), grid_features(torch.rand(1, 4, 7, 7))
print('createPairView' in export_html(image, image, match(x, x)))
"""
    done = run(wheel_environment[0], "-c", code)
    assert done.stdout.strip() == "True", done.stderr[-2000:]


def test_the_library_works_there(wheel_environment, tmp_path):
    "An importer's own images, from files to an explained score."
    from PIL import Image

    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (80, 60), color).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    code = (
        "from diml_nb.features.backbones import get_backbone\n"
        "from diml_nb.features.cache import extract_feature_maps\n"
        "from diml_nb.features.grid import grid_features\n"
        "from diml_nb.ot.matching import match\n"
        f"maps = extract_feature_maps({files!r}, get_backbone(), cache={str(tmp_path)!r})\n"
        "x = grid_features(maps)\n"
        "m = match(x[0], x[1])\n"
        "print(abs(m.contribution_bnm.sum() - m.similarity_b[0]).item() < 1e-6)"
    )
    done = run(wheel_environment[0], "-c", code)
    assert done.stdout.strip() == "True", done.stderr[-2000:]
