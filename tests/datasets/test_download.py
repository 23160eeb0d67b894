"Downloads from an unreliable server, hostile archives, Debian packages, atomic folders."

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from diml_nb._internal.download import RemoteFile, fetch_file, verify_checksum
from diml_nb._internal.paths import hash_bytes, hash_file, hash_text
from diml_nb.datasets.archives import (
    atomic_directory,
    extract_archive,
    read_members,
    safe_member_path,
)

BODY = bytes(range(256)) * 8000  # 2 MB
SUM = f"sha256:{hash_bytes(BODY)}"


@pytest.fixture
def server():
    """A real HTTP server; /cut/N hangs up after N answers of 300 kB, /slow dribbles, /wrong and
    /html lie, /500 fails twice, /norange sends all."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            kind, seen = self.path.split("/")[1], sum(p == self.path for p, _ in asked)
            if kind == "404" or kind == "500" and seen < 3:
                return self.send_error(int(kind))
            start = (
                int(self.headers["Range"][6:-1])
                if self.headers.get("Range") and kind != "norange"
                else 0
            )
            if start >= len(BODY):
                return self.send_error(416)
            body = {"wrong": BODY[:-1] + b"x", "html": b"<html>please log in</html>"}.get(
                kind, BODY
            )[start:]
            self.send_response(206 if start else 200)
            if kind != "nolength":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if kind == "cut" and seen <= int(self.path.split("/")[2]):
                body = body[:300_000]
            for i in range(0, len(body), 100_000):
                self.wfile.write(body[i : i + 100_000])
                if kind == "slow":
                    time.sleep(0.1)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()


def partial(folder, place):
    return folder / f"f.{hash_text(place)[:8]}.partial"


@pytest.mark.parametrize(
    "path,requests", [("/plain", 1), ("/cut/1", 2), ("/cut/2", 3), ("/500", 3), ("/nolength", 1)]
)
def test_arrives_whole(server, tmp_path, path, requests):
    got = fetch_file(RemoteFile("f", SUM, (server[0] + path,)), tmp_path, pause=0)
    assert got.read_bytes() == BODY
    assert len(server[1]) == requests
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_second_call_goes_on_where_the_first_gave_up(server, tmp_path):
    file = RemoteFile("f", SUM, (server[0] + "/cut/4",))
    with pytest.raises(
        OSError,
        match=f"(?s)the connection ended at byte 900000 of {len(BODY)}.*place it at .*f, then call",
    ):
        fetch_file(file, tmp_path, pause=0)
    assert partial(tmp_path, server[0] + "/cut/4").stat().st_size == 900_000
    assert fetch_file(file, tmp_path, pause=0).read_bytes() == BODY
    assert [r for _, r in server[1]][3:] == ["bytes=900000-", "bytes=1200000-"]


def test_a_killed_download_goes_on(server, tmp_path):
    code = (
        "from diml_nb._internal.download import RemoteFile,"
        f" fetch_file; fetch_file(RemoteFile('f', {SUM!r}, ({server[0] + '/slow'!r},)),"
        f" {str(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    came, deadline = partial(tmp_path, server[0] + "/slow"), time.monotonic() + 60
    while not (came.exists() and came.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = came.stat().st_size
    assert 0 < kept < len(BODY)
    assert fetch_file(RemoteFile("f", SUM, (server[0] + "/slow",)), tmp_path).read_bytes() == BODY
    assert server[1][-1] == ("/slow", f"bytes={kept}-")


@pytest.mark.parametrize(
    "path,content",
    [
        ("/plain", BODY),
        ("/plain", b"rotten" * 1000),
        ("/norange", b"rotten" * 1000),
        ("/plain", BODY + b"more"),
    ],
)
def test_a_partial_file_that_is_complete_or_rotten(server, tmp_path, path, content):
    partial(tmp_path, server[0] + path).write_bytes(content)
    assert (
        fetch_file(RemoteFile("f", SUM, (server[0] + path,)), tmp_path, pause=0).read_bytes()
        == BODY
    )
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_mirror_that_lies_costs_nothing_of_what_has_come(server, tmp_path):
    file = RemoteFile("f", SUM, (server[0] + "/cut/99", server[0] + "/html"))
    with pytest.raises(OSError):
        fetch_file(file, tmp_path, pause=0)
    assert partial(tmp_path, file.urls[0]).stat().st_size == 900_000
    with pytest.raises(OSError):
        fetch_file(file, tmp_path, pause=0)
    assert partial(tmp_path, file.urls[0]).stat().st_size == 1_800_000
    assert fetch_file(file, tmp_path, pause=0).read_bytes() == BODY


def test_garbage_and_a_broken_chunk_are_tried_again(tmp_path, server):
    "Answers that http.client cannot read, then a good mirror."
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for text in (
                b"garbage\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
                b"garbage\r\n\r\n",
            ):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(9999)
                    connection.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        bad = f"http://127.0.0.1:{listener.getsockname()[1]}/f"
        assert (
            fetch_file(
                RemoteFile("f", SUM, (bad, server[0] + "/plain")), tmp_path, pause=0
            ).read_bytes()
            == BODY
        )


def test_two_processes_fetch_it_once(server, tmp_path):
    code = (
        "from diml_nb._internal.download import RemoteFile,"
        f" fetch_file; print(len(fetch_file(RemoteFile('f', {SUM!r}, ({server[0] + '/slow'!r},)),"
        f" {str(tmp_path)!r}).read_bytes()))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    assert [p.communicate()[0] for p in both] == [f"{len(BODY)}\n"] * 2
    assert len(server[1]) == 1


def test_mirrors_are_asked_in_turn(server, tmp_path):
    places = tuple(server[0] + path for path in ("/404", "/wrong", "/html", "/plain"))
    assert fetch_file(RemoteFile("f", SUM, places), tmp_path, pause=0).read_bytes() == BODY
    assert [p for p, _ in server[1]] == [
        "/404",
        "/wrong",
        "/wrong",
        "/wrong",
        "/html",
        "/html",
        "/html",
        "/plain",
    ]  # a 404 is final


def test_nobody_has_it(server, tmp_path):
    with pytest.raises(OSError) as error:
        fetch_file(
            RemoteFile("f", SUM, (server[0] + "/404", server[0] + "/wrong")), tmp_path, pause=0
        )
    text = str(error.value)
    assert "404" in text
    assert SUM[7:] in text
    assert str(tmp_path / "f") in text
    assert not list(tmp_path.iterdir())


def test_placed_by_hand_is_verified(server, tmp_path):
    (tmp_path / "f").write_bytes(b"something else")
    with pytest.raises(
        ValueError, match="f: sha256 is .* expected .* delete it and call this again"
    ):
        fetch_file(RemoteFile("f", SUM, (server[0] + "/plain",)), tmp_path)
    assert not server[1]
    assert (tmp_path / "f").read_bytes() == b"something else"  # nobody's file is touched


@pytest.mark.parametrize(
    "name",
    [
        "/abs",
        "../up",
        "a/../../up",
        "a/../b",
        "..",
        "C:/x",
        "a\\b",
        "nul\0",
        "/",
        "",
        ".",
        "/".join("d" * 80),
    ],
)
def test_names_that_leave(tmp_path, name):
    with pytest.raises(ValueError, match="would leave its folder"):
        safe_member_path(name, tmp_path / "x.zip")


def member(name, kind=tarfile.REGTYPE, target="", content=b"x"):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def packed(path, *members):
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "bad,word",
    [
        (member("../x"), "leave"),
        (member("/x"), "leave"),
        (member("l", tarfile.SYMTYPE, "/etc"), "link"),
        (member("l", tarfile.SYMTYPE, "ok"), "link"),
        (member("l", tarfile.LNKTYPE, "ok"), "link"),
        (member("d", tarfile.CHRTYPE), "device"),
        (member("p", tarfile.FIFOTYPE), "device"),
        (member("ok"), "twice"),
        (member("./ok"), "twice"),
        (member("big", content=bytes(5000)), "more than"),
    ],
)
def test_tars_that_mean_harm(tmp_path, bad, word):
    with pytest.raises(ValueError, match=f"t.tar.*{word}"):
        extract_archive(
            packed(tmp_path / "t.tar", member("ok"), bad), tmp_path / "a" / "b", limit=4000
        )
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} <= {
        "t.tar",
        "a",
        "a/b",
        "a/b/ok",
        "a/b/big",
    }


def test_a_link_cannot_be_written_through(tmp_path):
    (tmp_path / "secret").mkdir()
    tar = packed(
        tmp_path / "t.tar", member("l", tarfile.SYMTYPE, str(tmp_path / "secret")), member("l/x")
    )
    with pytest.raises(ValueError, match="is a link"):
        extract_archive(tar, tmp_path / "out", limit=9999)
    assert not list((tmp_path / "secret").iterdir())


def test_members_that_cannot_be_written_are_named(tmp_path):
    for bad in ("ok/y", "n" * 300):
        with pytest.raises(OSError, match=f"t.tar: the member .{bad[:9]}.* cannot be written"):
            extract_archive(
                packed(tmp_path / "t.tar", member("ok"), member(bad)),
                tmp_path / bad[:2],
                limit=9999,
            )


def test_a_tar_that_ends_like_a_zip_is_a_tar(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as z:
        z.writestr("evil", b"x")
    assert (
        extract_archive(
            packed(tmp_path / "t.tar", member("ok"), member("z.zip", content=inner.getvalue())),
            tmp_path / "out",
            limit=9999,
        )
        == 2
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ok", "z.zip"]


def test_zips_that_mean_harm(tmp_path):
    for name, external in (("../x", 0), ("l", 0o120777 << 16), ("bomb", 0)):
        with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as z:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = external, zipfile.ZIP_DEFLATED
            z.writestr(info, bytes(10**7) if name == "bomb" else b"/etc")
        with pytest.raises(ValueError, match="leave|link|more than the 1,000,000 bytes"):
            extract_archive(tmp_path / "z.zip", tmp_path / "out", limit=10**6)
        assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 2 * 10**6


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_damaged_archives_are_named(tmp_path, suffix):
    noise = os.urandom(300_000)
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(whole, "w") as z:
            z.writestr("a", noise)
    else:
        with tarfile.open(whole, "w:gz") as t:
            t.addfile(member("a", content=noise)[0], io.BytesIO(noise))
    bad = tmp_path / f"bad.{suffix}"
    flipped = bytearray(whole.read_bytes())
    flipped[150_000:150_100] = bytes(100)
    # a tar knows nothing of its content: that is what the checksum is for
    damaged = [bytes(flipped)] if suffix == "zip" else []
    for content in (
        b"",
        b"<html>",
        whole.read_bytes()[:100_000],
        *damaged,
    ):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad.{suffix} is damaged"):
            extract_archive(bad, tmp_path / f"out{len(content)}", limit=10**6)


@pytest.mark.skipif(
    not shutil.which("dpkg-deb"),
    reason="dpkg-deb, which builds a real Debian package, is not installed",
)
def test_a_real_debian_package(tmp_path):
    "Built by dpkg-deb, read without it."
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: birds\nVersion: 1\nArchitecture: all\nMaintainer: me"
        " <me@example.org>\nDescription: birds\n"
    )
    (tree / "usr" / "share" / "auk.txt").write_text("an auk")
    (tree / "usr" / "share" / "link").symlink_to("auk.txt")
    subprocess.run(
        ["dpkg-deb", "-Zxz", "--build", str(tree), str(tmp_path / "birds.deb")],
        check=True,
        capture_output=True,
    )
    assert dict(read_members(tmp_path / "birds.deb", {"usr/share/auk.txt"})) == {
        "usr/share/auk.txt": b"an auk"
    }
    with pytest.raises(ValueError, match="birds.deb has no file usr/share/emu.txt"):
        list(read_members(tmp_path / "birds.deb", {"usr/share/emu.txt", "usr/share/auk.txt"}))
    with pytest.raises(ValueError, match="has no file usr/share/link"):
        list(read_members(tmp_path / "birds.deb", {"usr/share/link"}))  # links are no files


@pytest.fixture
def package(tmp_path, monkeypatch):
    "A source package in a folder that pip looks into, and nowhere else; its checksum."
    folder = tmp_path / "packages"
    folder.mkdir()
    setup = b"""
from pathlib import Path
from setuptools import setup

Path(r"RAN").touch()
setup(name="birds", version="1.0")
""".replace(b"RAN", str(tmp_path / "ran").encode())
    with tarfile.open(folder / "birds-1.0.tar.gz", "w:gz") as file:
        for name, text in (("setup.py", setup), ("PKG-INFO", b"Name: birds\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"birds-1.0/{name}")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # no: take the setuptools that is installed
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder / "birds-1.0.tar.gz", "sha256:" + hash_file(folder / "birds-1.0.tar.gz")


def test_a_package_of_pypi(package, tmp_path):
    path, checksum = package
    file = RemoteFile("birds-1.0.tar.gz", checksum, ("pypi:birds==1.0",))
    assert fetch_file(file, tmp_path / "archives").read_bytes() == path.read_bytes()
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["birds-1.0.tar.gz"]


def test_a_package_with_another_checksum_is_never_opened(package, tmp_path):
    "pip would run its setup.py."
    wrong = "sha256:" + 64 * "0"
    file = RemoteFile("birds-1.0.tar.gz", wrong, ("pypi:birds==1.0",))
    with pytest.raises(OSError, match=f"(?s){64 * '0'}.*{package[1][7:]}.*place it at"):
        fetch_file(file, tmp_path / "archives")
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "archives").iterdir())


def test_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr("diml_nb._internal.download.find_spec", lambda name: None)
    file = RemoteFile("birds-1.0.tar.gz", SUM, ("pypi:birds==1.0",))
    with pytest.raises(OSError, match="(?s)no pip.*ensurepip.*place it at .*birds-1.0.tar.gz"):
        fetch_file(file, tmp_path)


def test_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="(?s)apt-get is not on the PATH.*place it at"):
        fetch_file(RemoteFile("x.deb", SUM, ("apt:x=1",)), tmp_path)


def test_a_folder_takes_its_place_at_once(tmp_path):
    target = tmp_path / "set"
    for n in (1, 2):
        with atomic_directory(target) as new:
            (new / str(n)).write_text("")
            assert (
                [p.name for p in target.iterdir()] == (["1"] if n == 2 else [])
                if target.exists()
                else n == 1
            )
        assert [p.name for p in target.iterdir()] == [str(n)]
    with pytest.raises(KeyboardInterrupt):
        with atomic_directory(target) as new:
            raise KeyboardInterrupt
    assert [p.name for p in target.iterdir()] == ["2"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_verify_checksum_accepts_what_has_no_checksum(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    assert verify_checksum(tmp_path / "f", "") == tmp_path / "f"
