"The benchmark at tiny sizes: the same code as `make bench`, results checked before they are timed."
import json
import re
import subprocess
import sys

import pytest

from diml_nb.core import REPOSITORY

BENCH = REPOSITORY / "bench" / "bench.py"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    done = subprocess.run([sys.executable, BENCH, "--preset", "smoke", "--out", out, "--fresh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout


def test_every_part_is_measured_and_the_same(smoke):
    out, printed = smoke
    (record,) = (out / "results" / "bench").glob("*.json")
    rows = [(row["config"], row["result"]) for row in json.loads(record.read_text())["rows"]]
    checks = {config["part"]: result for config, result in rows if "checked" in config}
    assert set(checks) == {"evaluation", "training"} and checks["evaluation"]["similarity"] < 1e-6
    assert {config["part"] for config, _ in rows} == {"machine", "evaluation", "training", "bank"}
    for config, result in rows:
        if "ms" in result: assert all(low <= middle <= high for middle, low, high in result["ms"].values()) and result["ratio"]["ours"][0] > 0
    assert (out / "figures" / "bench.png").stat().st_size > 10_000
    assert len(re.findall(r"^\| (?:a query|a training step|a bank on disk) \|", printed, re.M)) == 3


def test_a_wrong_word_is_named():
    done = subprocess.run([sys.executable, BENCH, "--only", "speed"], capture_output=True, text=True)
    assert done.returncode == 2 and "got speed" in done.stderr
