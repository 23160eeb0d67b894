"Drawings from packages: the archives, the build, the alignment of vendors in the full set."

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

from diml_nb._internal.download import RemoteFile
from diml_nb._internal.paths import data_dir, hash_file
from diml_nb.datasets import emoji
from diml_nb.datasets.emoji import (
    NAME_FIXES,
    align_vendors,
    drop_near_duplicates,
    read_package,
    render_icon,
    vendor_of,
)
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.registry import DATASETS, EMOJI_FILES, get_dataset, verify_dataset

FOLDER = data_dir() / "emoji"
VENDORS = [vendor_of(f) for f in EMOJI_FILES]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*differs from the set of the records"
)  # the sets made here are their own


@pytest.fixture
def copy(tmp_path):
    "A root folder of its own with a copy of the embedded set."
    shutil.copytree(FOLDER, tmp_path / "root" / "emoji")
    return tmp_path / "root"


@pytest.fixture(scope="session")
def archives(fetch_packages):
    "The eight archives, fetched with npm."
    return fetch_packages(EMOJI_FILES, "npm")


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_npm_missing(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="Node.js"):
        prepare_dataset("emoji_vendors", root=copy, archives=tmp_path / "none")
    assert get_dataset(root=copy).hash == get_dataset().hash
    assert [p.name for p in copy.iterdir()] == ["emoji"]


def test_resvg_missing(copy, archives, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(ImportError, match="pip install resvg-py"):
        prepare_dataset(root=copy, archives=archives, fresh=True)
    assert get_dataset(root=copy).hash == get_dataset().hash


def test_render_is_padded_and_the_same_each_time():
    icons = {
        "width": 10,
        "height": 20,
        "icons": {"i": {"body": '<path fill="#00f" d="M0 0h10v20H0z"/>'}},
    }
    png = render_icon(icons, "i")
    assert png == render_icon(icons, "i")
    assert Image.open(io.BytesIO(png)).convert("RGBA").getchannel("A").getbbox() == (32, 0, 96, 128)


@pytest.fixture
def small(tmp_path, monkeypatch):
    "Two classes, two vendors, archives of our own: the build without a network."
    root, archives, files = tmp_path / "root", tmp_path / "archives", []
    (root / "emoji").mkdir(parents=True)
    archives.mkdir()
    parts = {
        "icons": {
            "width": 8,
            "height": 8,
            "icons": {
                n: {"body": f'<path fill="{c}" d="M0 0h4v8H0z"/>'}
                for n, c in (("a", "red"), ("b", "blue"))
            },
        },
        "chars": {},
        "info": {"author": {"name": "me"}, "license": {"spdx": "MIT"}},
    }
    for name in ("one", "two"):
        with tarfile.open(archives / f"{name}.tgz", "w:gz") as tar:
            for part, content in parts.items():
                member, text = tarfile.TarInfo(f"package/{part}.json"), json.dumps(content).encode()
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        files.append(
            RemoteFile(
                f"{name}.tgz",
                f"sha256:{hash_file(archives / f'{name}.tgz')}",
                (f"npm:@x/{name}@1",),
            )
        )
    monkeypatch.setitem(
        DATASETS,
        "emoji",
        replace(
            DATASETS["emoji"], files=tuple(files), counts={"train": (2, 1), "test": (1, 1)}, hash=""
        ),
    )
    (root / "emoji" / "classes.csv").write_text(
        "class,code_point,split,one,two\na,U+1,train,a,a\nb,U+2,test,b,\n"
    )
    (root / "emoji" / "README.md").write_text("kept")
    return root, archives


def test_small_build(small):
    root, archives = small
    prepare_dataset(root=root, archives=archives)
    assert set(contents(root)) == {
        f"emoji/{f}"
        for f in ("classes.csv", "README.md", "images.csv", "a/one.png", "a/two.png", "b/one.png")
    }
    images = get_dataset(root=root)
    assert images.label_n.tolist() == [0, 0, 1]
    assert images.split_n == ("train", "train", "test")
    assert verify_dataset(root=root) == 3
    before = contents(root)
    prepare_dataset(root=root, archives=archives, fresh=True)
    assert contents(root) == before


def test_failure_midway_leaves_the_old_set(small, monkeypatch):
    root, archives = small
    prepare_dataset(root=root, archives=archives)
    before, calls = contents(root), []

    def fails(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError("disk full")
        return b"new"

    monkeypatch.setattr(emoji, "render_icon", fails)
    with pytest.raises(OSError, match="disk full"):
        prepare_dataset(root=root, archives=archives, fresh=True)
    assert len(calls) == 3
    assert contents(root) == before
    assert [p.name for p in root.iterdir()] == ["emoji"]


def test_wrong_counts_leave_the_old_set(small, monkeypatch):
    root, archives = small
    prepare_dataset(root=root, archives=archives)
    before = contents(root)
    monkeypatch.setitem(
        DATASETS, "emoji", replace(DATASETS["emoji"], counts={"train": (3, 1), "test": (1, 1)})
    )
    with pytest.raises(ValueError, match="expected .*3, 1.*got.*2, 1"):
        prepare_dataset(root=root, archives=archives, fresh=True)
    assert contents(root) == before


def test_rebuild_is_the_same_to_the_byte(archives, copy):
    shutil.rmtree(copy / "emoji" / "ant")  # nothing of the old drawings is needed
    prepare_dataset(root=copy, archives=archives)
    assert get_dataset(root=copy).hash == DATASETS["emoji"].hash
    new, old = contents(copy / "emoji"), contents(FOLDER)
    assert set(new) == set(old)
    differ = [name for name in new if new[name] != old[name]]
    assert not differ, (
        f"{len(differ)} files differ, first {differ[:3]}; are resvg-py and Pillow those of"
        " requirements.txt?"
    )


@pytest.fixture(scope="session")
def packs(archives):
    return {vendor_of(f): read_package(archives / f.name) for f in EMOJI_FILES}


def test_every_package_names_author_and_licence(packs):
    licences = {name: pack["info"]["license"]["spdx"] for name, pack in packs.items()}
    assert licences == dict(
        zip(
            VENDORS,
            (
                "Apache-2.0",
                "Apache-2.0",
                "MIT",
                "Apache-2.0",
                "CC-BY-4.0",
                "CC-BY-4.0",
                "CC-BY-SA-4.0",
                "CC-BY-SA-4.0",
            ),
            strict=True,
        )
    )
    assert all(pack["info"]["author"]["name"] for pack in packs.values())
    assert {name for name, pack in packs.items() if pack["chars"]} == {
        "noto",
        "twemoji",
        "openmoji",
    }


def test_icons_are_those_of_the_code_points(packs):
    "Where a package lists code points, the icon of classes.csv is the one it lists."
    table = pd.read_csv(FOLDER / "classes.csv", keep_default_na=False)
    for name in set(VENDORS) & set(table):
        for code, icon in zip(table.code_point.str[2:].str.lower(), table[name], strict=True):
            listed = packs[name]["chars"].get(code, icon)
            assert (
                packs[name]["icons"].get("aliases", {}).get(listed, {"parent": listed})["parent"]
                == icon
            ), (name, code)


# the full set


def test_align_vendors(packs):
    table = align_vendors(packs)
    icons = table[[*VENDORS]]
    assert len(table) == 1119
    assert table["class"].is_unique
    assert table.code_point.is_unique
    assert table["class"].is_monotonic_increasing
    assert (icons != "").sum().to_dict() == {
        "noto": 1119,
        "noto-v1": 1115,
        "fluent-emoji": 1106,
        "fxemoji": 604,
        "twemoji": 1119,
        "emojione": 1085,
        "openmoji": 1118,
        "emojione-v1": 924,
    }
    assert (icons != "").sum(axis=1).min() == 5
    assert table.code_point.str.fullmatch("U[+][0-9A-F]{4,5}( U[+][0-9A-F]{4,5})*").all()
    assert table["class"].str.fullmatch("[a-z0-9-]+").all()
    sequences = table.code_point[table.code_point.str.contains(" ")]
    assert len(sequences) == 36
    assert not sequences.str.contains(
        "U[+]264[02]$|U[+]1F46[67]$|U[+]1F3F[B-F]|U[+]1F1[EF]"
    ).any()  # signs for woman and man, children, skin, flags
    assert not any(
        "skin" in name or "keycap-" in name and name != "keycap-10" for name in table["class"]
    )
    for name in VENDORS:
        assert not icons[name][icons[name] != ""].duplicated().any()
        assert set(icons[name]) - {""} <= packs[name]["icons"]["icons"].keys()


def test_align_vendors_agrees_with_the_table_checked_by_hand(packs):
    "The icons of the embedded set, up to what it leaves out as near copies."
    hand = pd.read_csv(FOLDER / "classes.csv", dtype=str, keep_default_na=False).set_index("class")
    table = align_vendors(packs).set_index("class").loc[hand.index]
    assert (table.code_point == hand.code_point).all()
    differ = [
        (c, d) for d in set(VENDORS) & set(hand) for c in hand.index if table[d][c] != hand[d][c]
    ]
    assert sorted(differ) == [
        ("american-football", "emojione"),
        ("light-bulb", "emojione"),
        ("tornado", "noto-v1"),
    ]


def test_every_correction_is_needed(packs, monkeypatch):
    table = align_vendors(packs).set_index("code_point")
    monkeypatch.setattr(emoji, "NAME_FIXES", {})
    naive = align_vendors(packs).set_index("code_point")
    for vendor, names in NAME_FIXES.items():
        for icon, name in names.items():
            fixed = set(table.index[table[vendor] == icon])
            unfixed = set(naive.index[naive[vendor] == icon])
            assert fixed != unfixed, icon
            assert bool(name) == bool(fixed), icon


def test_drop_near_duplicates_keeps_the_first_and_leaves_out_copies():
    def square(colour, x, w):
        return render_icon(
            {"icons": {"i": {"body": f'<path fill="{colour}" d="M{x} 0h{w}v16h-{w}z"/>'}}}, "i"
        )

    pngs = {
        "a": square("#00f", 0, 8),
        "turned": square("#00f", 8, 8),
        "nearly": square("#00f", 0, 7),
        "half": square("#00f", 0, 4),
        "red": square("#f00", 0, 8),
        "nothing": square("#fff", 0, 8),
    }
    assert list(drop_near_duplicates(pngs)) == ["a", "half", "red", "nothing"]
    assert list(drop_near_duplicates(dict(reversed(pngs.items())))) == [
        "nothing",
        "red",
        "half",
        "nearly",
    ]  # 1/8 of `a` is missing in it
    assert drop_near_duplicates(pngs, min_distance=0) == pngs


def test_a_few_classes_of_the_full_set(packs, archives, copy, monkeypatch):
    "The whole way, for the classes in `few` only: all of them take a minute more."
    few = [
        "bus",
        "comet",
        "man-cook",
        "one-oclock",
        "owl",
        "red-circle",
        "tornado",
        "volcano",
        "woman-cook",
        "zebra",
    ]
    table = align_vendors(packs)
    monkeypatch.setattr(
        emoji, "align_vendors", lambda packs: table[table["class"].isin(few)].copy()
    )
    monkeypatch.setitem(
        DATASETS,
        "emoji_vendors",
        replace(DATASETS["emoji_vendors"], counts={"train": (23, 4), "test": (27, 4)}),
    )
    with pytest.warns(UserWarning, match="differs from the set of the records"):
        prepare_dataset("emoji_vendors", root=copy, archives=archives)
    now = contents(copy / "emoji_vendors")
    prepare_dataset("emoji_vendors", root=copy, archives=archives, fresh=True)
    assert contents(copy / "emoji_vendors") == now
    monkeypatch.setitem(DATASETS, "emoji_vendors", replace(DATASETS["emoji_vendors"], hash=""))
    images = get_dataset("emoji_vendors", root=copy)
    assert images.classes == (
        "bus",
        "comet",
        "man-cook",
        "one-oclock",
        "owl",
        "tornado",
        "volcano",
        "woman-cook",
    )  # four red circles are copies of one
    assert verify_dataset("emoji_vendors", root=copy) == len(images) == len(now) - 1
    assert not {"comet/noto-v1.png", "one-oclock/emojione-v1.png", "tornado/noto-v1.png"} & set(now)
    shared = [p for p in contents(copy / "emoji") if p.split("/")[0] in few]
    assert len(shared) == 22
    assert all(now[p] == (copy / "emoji" / p).read_bytes() for p in shared)
    side, new_side = (
        {p.parent.name: s for p, s in zip(x.paths, x.split_n, strict=True)}
        for x in (get_dataset(root=copy), images)
    )
    assert all(side.get(c, s) == s for c, s in new_side.items())
    assert new_side["man-cook"] == new_side["woman-cook"]
    assert set(images.metadata["design"]) == set(VENDORS)
    assert all(images.metadata["licence"])


@pytest.mark.skipif(
    not (data_dir() / "emoji_vendors").exists(),
    reason="the full set is not here; `diml data fetch emoji_vendors` builds it",
)
def test_full_set_that_was_fetched():
    full, embedded = get_dataset("emoji_vendors"), get_dataset()
    assert (len(full), len(full.classes), full.hash) == (8011, 1113, DATASETS["emoji_vendors"].hash)
    assert min(full.label_n.bincount()) == 5
    assert set(full.subset("train").label_n.tolist()).isdisjoint(
        full.subset("test").label_n.tolist()
    )
    split = {p.parent.name: s for p, s in zip(full.paths, full.split_n)}
    assert all(
        split[c] == split["wo" + c] for c in split if c.startswith("man-") and "wo" + c in split
    )
    for path, s in zip(embedded.paths, embedded.split_n):
        assert split[path.parent.name] == s
        assert hash_file(path) == hash_file(full.paths[0].parents[1] / path.parent.name / path.name)
