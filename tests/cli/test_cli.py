"The diml command: as a shell runs it, and the many sentences of it in this process."

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diml_nb.features.backbones import BACKBONE_NAMES

DIML = str(Path(sys.executable).with_name("diml"))


def shell(*words, **environment):
    return subprocess.run(
        [DIML, *words], capture_output=True, text=True, env=os.environ | environment
    )


@pytest.mark.parametrize(
    "words",
    (
        ["--help"],
        ["data", "--help"],
        ["reproduce", "--help"],
        ["data", "fetch", "--help"],
        ["data", "show", "--help"],
    ),
)
def test_help(words, diml):
    done = (shell if words == ["--help"] else diml)(*words)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("command", ("explain", "index"))
def test_help_lists_the_networks(command, diml):
    "Typed there, since help loads no torch."
    said = " ".join(diml(command, "--help").stdout.split())
    assert [name for name in BACKBONE_NAMES if name not in said] == []


def test_help_loads_nothing_heavy():
    "Asking for help is quick: no torch, pandas, matplotlib."
    code = (
        "import sys; sys.argv=['diml','--help']\nfrom diml_nb.cli import app\ntry: app()\nexcept"
        " SystemExit: pass\nprint(sorted({'torch','pandas','matplotlib','timm'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stdout[-300:]


def test_data():
    assert "592 images" in shell("data", "list").stdout
    assert shell("data", "verify").stdout == "emoji: 592 images verified\n"


def test_data_that_was_not_fetched(tmp_path, diml):
    done = diml("data", "list", DIML_DATA=str(tmp_path))
    assert done.returncode == 0
    assert "[diml data fetch emoji_vendors]" in done.stdout
    assert "inshop (files by hand)" in done.stdout
    assert not done.stderr
    done = diml("data", "verify", "emoji_vendors", DIML_DATA=str(tmp_path))
    assert done.returncode == 2
    assert "`diml data fetch emoji_vendors`" in done.stderr


@pytest.mark.parametrize(
    "words,message",
    [
        (["reproduce", "99_nothing"], "expected one of 01_test_time"),
        (
            ["reproduce", "01_test_time", "--preset", "huge"],
            "preset: expected one of smoke, quick, full",
        ),
        (
            ["reproduce", "05_losses", "--param", "epochs"],
            "--param: expected NAME=VALUE, got 'epochs'",
        ),
        (
            ["reproduce", "05_losses", "--param", "preset=full"],
            "--param: preset has an option of its own",
        ),
        (
            ["reproduce", "05_losses", "--param", "colour=red"],
            "05_losses has no parameter colour; it has preset",
        ),
        (["data", "verify", "birds"], "unknown data set 'birds'; known: emoji"),
        (["data", "verify", "cub"], "`diml data fetch cub` makes the set"),
        (["data", "show", "nowhere.csv"], "unknown data set 'nowhere.csv'"),
        (["data", "verify", "--root", "nowhere"], "no data folder at nowhere"),
        (["data", "fetch", "birds"], "cannot fetch 'birds'"),
    ],
)
def test_one_sentence_and_status_two(words, message, diml):
    done = diml(*words)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_error_reaches_the_shell():
    done = shell("data", "verify", "--root", "nowhere")
    assert done.returncode == 2
    assert "no data folder at nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_option():
    assert shell("reproduce", "--prset", "smoke").returncode == 2
