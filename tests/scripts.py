"Node, which runs the scripts of pages."

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diml_nb._internal.paths import REPO_ROOT

JS = REPO_ROOT / "tests" / "js"


def find_node() -> str | None:
    "Node, if it is new enough to run tests."
    node = shutil.which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return node if int(version.removeprefix("v").split(".")[0]) >= 18 else None


NODE = find_node()
needs_node = pytest.mark.skipif(not NODE, reason="no Node 18 or newer: apt-get install nodejs")


def answer_of(script: str, asked: Any, folder: Path) -> Any:
    "What a script of tests/js writes, as JSON, to what it is asked."
    file = folder / "asked.json"
    file.write_text(json.dumps(asked))
    done = subprocess.run([NODE, script, file], cwd=JS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
