"""`diml data check` names all that is odd, computes no network and writes nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_diml
from image_files import save, split_folder, tree
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.folders import load_csv
from diml_nb.learning.dataset_check import check_dataset, read_image_facts


def test_check_of_a_good_set():
    status, output = run_diml("data", "check")
    assert status == 0
    assert "training and evaluation can begin" in output
    assert "odd" not in output
    assert check_dataset().training["MB of maps, on the disk"] == 37
    assert check_dataset().ok


def faulty(tmp_path) -> Path:
    top = tmp_path / "own"
    for name in ("bus", "owl", "ant", "koala"):
        shutil.copytree(data_dir() / "emoji" / name, top / name)
    (top / "Owl").mkdir()
    shutil.copy(top / "owl" / "noto.png", top / "Owl" / "copy.png")
    Image.fromarray(np.linspace(0, 65535, 64 * 64, dtype="uint16").reshape(64, 64)).save(
        top / "bus" / "scan.png"
    )
    frames = [Image.new("L", (64, 64), c) for c in (0, 200)]
    frames[0].save(top / "bus" / "film.gif", save_all=True, append_images=frames[1:])
    (top / "ant" / "cut.png").write_bytes((top / "ant" / "noto.png").read_bytes()[:1500])
    save(top / "koala" / "wide.png", size=(300, 20))
    (top / "koala" / "notes.txt").write_text("")
    (top / "empty").mkdir()
    (top / "ant" / "all").symlink_to("..")
    return top


def test_check_names_all_that_is_odd(tmp_path):
    status, output = run_diml("data", "check", faulty(tmp_path))
    assert status == 1
    assert "training or evaluation would be refused" in output
    expected = (
        "2 of 28 images cannot be used",
        "ant/cut.png",
        "film.gif",
        "2 frames",
        (
            "1 images are more than twice as long as wide, of which a network sees the square in"
            " the middle: koala/wide.png"
        ),
        "one colour all over: koala/wide.png",
        "smaller than 32 pixels",
        "Owl/copy.png = owl/noto.png",
        "Owl = owl",
        "have one image, which nothing can find: Owl",
        "1 with .txt",
        "no classes: empty",
        "ant/all is a link to",
        "what would do: --batch-size",
        "I;16",
    )
    for words in expected:
        assert words in output, words


def test_check_computes_no_network_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        torch.nn.Module, "__call__", lambda *a, **k: pytest.fail("a network was computed")
    )
    monkeypatch.setenv("DIML_CACHE", str(tmp_path / "cache"))
    top = faulty(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    check_dataset(top)
    assert sorted(tmp_path.rglob("*")) == before


def test_check_with_the_options_it_proposes(tmp_path):
    images = split_folder(tmp_path, 5)
    top = images.paths[0].parents[2]
    assert run_diml("data", "check", top)[0] == 1
    status, output = run_diml("data", "check", top, "--batch-size", "10", "--validation", "0")
    assert status == 0
    assert "classes to learn" in output


@pytest.mark.parametrize("name", ["/nowhere/at/all", "x\x1b[31m.csv", "2024"])
def test_check_of_nothing(name):
    status, output = run_diml("data", "check", name)
    assert status == 1
    assert "unknown data set" in output or "matches" in output
    assert "\x1b" not in output


def test_check_escapes_names(tmp_path):
    tree(tmp_path / "own", "a\x1b[31m\nb/1.png", "c/1.png", "c/2.png")
    status, output = run_diml("data", "check", tmp_path / "own")
    assert status == 1
    assert "\x1b" not in output
    assert r"a\x1b[31m" in output


def test_a_broken_mask_is_refused_first(tmp_path):
    tree(tmp_path, "a/1.png", "b/1.png", "m/1.png", "m/2.png")
    (tmp_path / "t.csv").write_text("path,label,mask\na/1.png,a,m/1.png\nb/1.png,b,m/2.png\n")
    assert len(load_csv(tmp_path / "t.csv")) == 2
    (tmp_path / "m" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 4 images cannot be used:.*\n.*m/2.png"):
        load_csv(tmp_path / "t.csv")
    assert "mask 2.png" in str(check_dataset(tmp_path / "t.csv"))


def test_check_refuses_what_loading_refuses(tmp_path):
    four = tree(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (four / "b" / "3.png").symlink_to("../a/1.png")
    (four / "t.csv").write_text("path,label\na/1.png,a\nb/3.png,b\n")
    assert "are listed twice, by links" in check_dataset(four / "t.csv").blocking[0]
    (four / "t.csv").rename(four / "images.csv")
    assert "are listed twice, by links" in check_dataset(four).blocking[0]


def test_check_of_tables_and_named_sets(tmp_path):
    tree(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "t.csv").write_text("path;label\na/1.png;1\na/2.png;01\nb/1.png;b\n")
    report = check_dataset(tmp_path / "t.csv")
    assert any("1 = 01" in line for line in report.remarks)
    assert not report.ok
    (tmp_path / "t.csv").write_bytes("path,label\nü.png,a\n".encode("latin-1"))
    assert "iconv" in str(check_dataset(tmp_path / "t.csv"))


def test_a_huge_picture_is_said_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    save(tmp_path / "x.png", size=(100, 30))
    assert "decompression bomb" in read_image_facts(tmp_path / "x.png").fault
