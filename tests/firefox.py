"""Debian's Firefox without a window, spoken to by WebDriver BiDi: for tests/."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
NO_FIREFOX = "no Firefox on this machine: apt-get install firefox-esr"
PREFERENCES = """
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("ui.systemUsesDarkTheme", 0);
"""


class FirefoxPage:
    "A page of Firefox: what it asked for, what went wrong, and what a person can do to it."

    def __init__(self, address: str):
        from websocket import create_connection

        self.socket = create_connection(address, timeout=60, suppress_origin=True)
        self.number = 0
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["network.beforeRequestSent", "log.entryAdded"])
        tree = self.ask("browsingContext.getTree")
        self.context = tree["contexts"][0]["context"]

    def ask(self, method: str, **params: Any) -> dict:
        "The result of a command; events that come before it are noted."
        self.number += 1
        self.socket.send(json.dumps(dict(id=self.number, method=method, params=params)))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                break
            self._note(message)
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
        return message["result"]

    def _note(self, message: dict) -> None:
        if message.get("method") == "network.beforeRequestSent":
            self.requests.append(message["params"]["request"]["url"])
        elif message.get("method") == "log.entryAdded":
            entry = message["params"]
            if entry["level"] in ("error", "warn"):
                self.faults.append(entry["text"])

    def visit(self, address: str) -> None:
        "Open a page and wait until it is there."
        self.ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def resize(self, width: int, height: int) -> None:
        "Give the page another size."
        viewport = dict(width=width, height=height)
        self.ask("browsingContext.setViewport", context=self.context, viewport=viewport)

    def run(self, script: str) -> Any:
        "The value of an expression in the page, through JSON; a promise is waited for."
        code = f"Promise.resolve({script}).then(x => JSON.stringify(x ?? null))"
        target = dict(context=self.context)
        found = self.ask("script.evaluate", expression=code, target=target, awaitPromise=True)
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    def settle(self) -> None:
        "Wait until two frames are drawn."
        frames = "requestAnimationFrame(() => requestAnimationFrame(done))"
        self.run(f"new Promise(done => {frames})")

    def named(self, role: str, name: str) -> list[dict]:
        "Elements by what the accessibility tree calls them."
        locator = dict(type="accessibility", value=dict(role=role, name=name))
        found = self.ask("browsingContext.locateNodes", context=self.context, locator=locator)
        return found["nodes"]

    def found(self, selector: str) -> list[dict]:
        "Elements by a selector of CSS."
        locator = dict(type="css", value=selector)
        found = self.ask("browsingContext.locateNodes", context=self.context, locator=locator)
        return found["nodes"]

    def click(self, node: dict) -> None:
        "Click in the middle of an element, by the mouse."
        arrow = dict(type="element", element=dict(sharedId=node["sharedId"]))
        target = dict(context=self.context)
        scroll = dict(
            functionDeclaration="x => x.scrollIntoView({block: 'center'})",
            arguments=[dict(sharedId=node["sharedId"])],
            awaitPromise=False,
        )
        self.ask("script.callFunction", target=target, **scroll)
        moves = [
            dict(type="pointerMove", x=0, y=0, origin=arrow),
            dict(type="pointerDown", button=0),
            dict(type="pointerUp", button=0),
        ]
        mouse = dict(type="pointer", id="mouse", actions=moves)
        self.ask("input.performActions", context=self.context, actions=[mouse])
        self.settle()

    def press(self, *keys: str) -> None:
        "Press keys, one after another."
        moves = [dict(type=kind, value=key) for key in keys for kind in ("keyDown", "keyUp")]
        board = dict(type="key", id="keys", actions=moves)
        self.ask("input.performActions", context=self.context, actions=[board])
        self.settle()


KEYS = dict(left="\ue012", tab="\ue004")


@contextmanager
def firefox():
    "A page of a headless Firefox with a profile of its own."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with TemporaryDirectory() as profile:
        (Path(profile) / "user.js").write_text(PREFERENCES)
        command = [FIREFOX, "--headless", "--no-remote", "--profile", profile]
        process = subprocess.Popen(
            [*command, f"--remote-debugging-port={port}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        page = None
        try:
            page = _connect(process, f"ws://127.0.0.1:{port}/session")
            yield page
        finally:
            if page:
                page.socket.close()
            process.terminate()
            process.wait(30)


def _connect(process: subprocess.Popen, address: str) -> FirefoxPage:
    deadline = time.monotonic() + 60
    while True:
        try:
            return FirefoxPage(address)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Firefox did not start") from None
            time.sleep(0.3)
