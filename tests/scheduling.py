"Which tests belong together, and how long each took: for `make test` and `make quick`."

import ast
import json
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
HOME = Path(__file__).parents[1]
DURATIONS = Path(__file__).with_name("durations.json")


def is_shared(function: ast.FunctionDef) -> bool:
    "Is it a fixture that is made once for several tests?"
    calls = [x for x in function.decorator_list if isinstance(x, ast.Call)]
    return any(word.arg == "scope" for call in calls for word in call.keywords)


@cache
def who_shares(path: Path) -> set[str]:
    "Functions of a test file that ask for a shared fixture of it, or for one that asks for it."
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {x.name: x for x in tree.body if isinstance(x, ast.FunctionDef)}
    asks = {name: {arg.arg for arg in x.args.args} for name, x in functions.items()}
    found, todo = set(), [name for name, function in functions.items() if is_shared(function)]
    while todo:
        found.add(todo.pop())
        todo += [name for name in asks if asks[name] & found and name not in found]
    return found


def unit(nodeid: str) -> str:
    "Tests that share a fixture of their file are one unit; any other test is a unit of its own."
    file, _, name = nodeid.partition("::")
    shared = name.partition("[")[0] in who_shares(HOME / file)
    return file if shared else nodeid


@cache
def durations() -> dict[str, float]:
    "Seconds of each slow test when they were last kept, its fixtures included."
    return json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}


def cost_of_units(nodeids: Iterable[str]) -> Counter:
    "Seconds of each unit."
    cost = Counter()
    for nodeid in nodeids:
        cost[unit(nodeid)] += durations().get(nodeid, 0)
    return cost


def keep_durations(reports) -> None:
    "Write the seconds of each test that took at least 0.3 of them."
    seconds = Counter()
    for report in reports:
        seconds[report.nodeid] += report.duration
    kept = {name: round(seconds[name], 1) for name in sorted(seconds) if seconds[name] >= 0.3}
    DURATIONS.write_text(json.dumps(kept, indent=0) + "\n")


def folder_of_this_run(tmp_path_factory) -> Path:
    "A temporary folder that all workers of a run share."
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if WORKER else folder
