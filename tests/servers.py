"""JupyterLab and Voila as `make lab` and `make explore` start them, a server of files, and Debian's
Chromium: for tests/ and bench/."""

import functools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from diml_nb._internal.paths import REPO_ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM = "no Chromium on this machine: apt-get install chromium"
SCREENSHOTS = REPO_ROOT / "data" / "runs" / "screenshots"


@contextmanager
def serve(command: list[str], cwd: Path, ready: str, **environment: str):
    "Start a server on a free port of loopback; yields its address once `ready` answers below it."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, f"--port={port}", "--no-browser"],
        cwd=cwd,
        env=os.environ | {"DIML_QUIET": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/{ready}", timeout=2)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(30)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@contextmanager
def serve_files(folder: Path):
    "Serve a folder on a free port of loopback; yields its address."
    handler = functools.partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def copy_of_the_book(folder: Path) -> Path:
    "A copy of nbs/, so that nothing a browser saves lands in the repository."
    shutil.copytree(REPO_ROOT / "nbs", folder / "nbs", dirs_exist_ok=True)
    return folder


def lab(folder: Path, clone: Path | None = None):
    "A JupyterLab that shows a copy of the book, or a clone and its library; its token is abc."
    for extension, setting in {
        "apputils-extension/notification": '{"fetchNews": "false"}',  # else it asks, over the page
        "notebook-extension/tracker": '{"recordTiming": true}',
    }.items():
        path = folder / "settings" / "@jupyterlab" / f"{extension}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(setting)
    options = [
        f"--ServerApp.root_dir={clone or copy_of_the_book(folder)}",
        "--ServerApp.token=abc",
        "--allow-root",
        f"--LabApp.user_settings_dir={folder / 'settings'}",
    ]
    return serve(
        ["jupyterlab", *options],
        folder,
        "api?token=abc",
        **dict(PYTHONPATH=str(clone)) if clone else {},
    )


def voila(folder: Path):
    "The explorers as a page; its token is abc, all else is as nbs/explore/voila.json says."
    return serve(
        ["voila", "explorers.ipynb", "--token=abc"],
        copy_of_the_book(folder) / "nbs" / "explore",
        "login",
    )


@contextmanager
def chromium():
    "A headless Chromium."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def browser_page(**options):
    """A page of a headless Chromium; `page.outside(address)` lists what it asked of others,
    `page.faults` its errors."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1800}, **options)
        requests, page.faults = [], []
        page.on("request", lambda r: requests.append(r.url))
        page.on("websocket", lambda w: requests.append(w.url))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.outside = lambda address: [
            u
            for u in requests
            if not u.startswith((address, "data:", "blob:", address.replace("http", "ws")))
        ]
        yield page


def run_in_lab(page, address: str, notebook: str, seconds: int = 240) -> None:
    "Open a notebook of the copy in JupyterLab and run all its cells."
    import re

    page.goto(f"{address}/lab/tree/nbs/{notebook}?token=abc&reset")
    idle = page.get_by_text(re.compile(r"Python 3.*\| Idle|python3.*\| Idle")).first
    idle.wait_for(timeout=90_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".jp-InputArea-prompt", has_text=re.compile(r"\[(\*|\d+)\]")).first.wait_for(
        state="attached", timeout=30_000
    )
    idle.wait_for(timeout=1000 * seconds)
