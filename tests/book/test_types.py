"""The types that a user's editor is told: a type checker reads a program which uses the library,
and finds the planted mistakes and no others."""

import ast
import subprocess
import sys
import textwrap

import diml_nb
from diml_nb._internal.paths import REPO_ROOT

PROGRAM = """
    from typing import assert_type

    from matplotlib.figure import Figure
    from torch import Tensor

    from diml_nb import (
        Backbone, Features, Match, Ranking, extract_feature_maps, get_backbone, grid_features,
        match, plot_flows, rerank, retrieval_metrics, search,
    )
    from diml_nb.retrieval.metrics import Metrics

    backbone = get_backbone()
    assert_type(backbone, Backbone)
    features = grid_features(extract_feature_maps(["a.jpg", "b.jpg"], backbone), grid=7)
    assert_type(features, Features)
    found = match(features[0], features[1], marginals="cross_correlation_norm2", eps=0.1)
    assert_type(found, Match)
    assert_type(found.contribution_bnm, Tensor)
    ranking = rerank(search(features, features, exclude_self=True), features, features, top_k=10)
    assert_type(ranking, Ranking)
"""
MISTAKES = {  # a line, and what must be said of it
    "grid_features('a.jpg')": "arg-type",
    "match(features, features, epsilon=0.1)": "call-arg",
    "found.plan": "attr-defined",
    "rerank(features, features, features)": "arg-type",
}


def test_a_program_of_a_user(tmp_path):
    program = textwrap.dedent(PROGRAM)
    first = len(program.splitlines()) + 1
    (tmp_path / "program.py").write_text(program + "\n".join(MISTAKES) + "\n")
    # with the options and the cache of `make check`, which knows the library already
    command = [sys.executable, "-m", "mypy", "--no-error-summary", tmp_path / "program.py"]
    said = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)
    errors = [line for line in said.stdout.splitlines() if ": error:" in line]
    assert [(int(e.split(":")[1]), e.rsplit("[", 1)[1].rstrip("]")) for e in errors] == [
        (first + i, kind) for i, kind in enumerate(MISTAKES.values())
    ], said.stdout + said.stderr


def test_an_editor_knows_every_public_name():
    "What is imported when it is asked for is imported once more, for type checkers alone."
    tree = ast.parse((REPO_ROOT / "diml_nb" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.asname: node.module for node in block.body for alias in node.names}
    assert told == diml_nb._MODULE_OF
