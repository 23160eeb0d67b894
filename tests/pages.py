"""What pages hold."""

import json
import re


def page_payload(piece: str) -> dict:
    "The numbers of the explorer in a piece of a page."
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', piece, flags=re.S)
    return json.loads(text)
