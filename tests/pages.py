"""Pages without Python: what they hold, and when they have answered."""

import json
import re


def page_payload(piece: str) -> dict:
    "The numbers of the explorer in a piece of a page."
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', piece, flags=re.S)
    return json.loads(text)


def settle(page) -> None:
    "Wait until two frames are drawn in a page of Chromium."
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
