"""Attention on the text as a component of the browser: its data, and one HTML file that holds it.

Page and file have the same script and style, in the folder `browser`: several files that are joined
to one script, since a component has one and nothing is built. The weights are sent once, as half
precision floats; a hover asks nobody. Tokens are hostile: the script sets them as text.
"""

import base64
import hashlib
import json
from html import escape
from pathlib import Path

import numpy as np

from interp.attention.texts.on_text import TextAttention
from interp.metrics import head_name

LONGEST = 80
"""Most characters of a token that are sent."""
_BROWSER = Path(__file__).parent / "browser"
_PARTS = "numbers", "words", "tokens", "choosing", "spans", "heads", "mount"
SCRIPT = "\n".join((_BROWSER / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)
STYLE = (_BROWSER / "strip.css").read_text(encoding="utf-8")
# The component takes its colours from the page of Streamlit; a file brings its own.
_PAGE_STYLE = """
:root { color-scheme: light dark; --st-primary-color: #B3470A; --st-background-color: #FFFFFF;
  --st-text-color: #1F2328; --st-border-color: #C9C5BD; }
@media (prefers-color-scheme: dark) { :root { --st-primary-color: #E8824A;
  --st-background-color: #16181C; --st-text-color: #E8E6E1; --st-border-color: #4A4F57; } }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; line-height: 1.5;
  color: var(--st-text-color); background: var(--st-background-color);
  font-family: "Source Sans 3", "Source Sans Pro", "Segoe UI", Helvetica, Arial, sans-serif; }
figure { margin: 0; } figcaption { margin-top: 1.5rem; font-size: .9rem; opacity: .8;
  overflow-wrap: anywhere; }
"""
_MOUNT = """
mount({
  parentElement: document.querySelector('main'),
  data: JSON.parse(document.querySelector('script[type="application/json"]').textContent),
});
"""


def payload(found: TextAttention) -> dict:
    """What the script draws: plain values that JSON can hold.

    Returns:
        `tokens`, `spans` (`name`, `at`: positions), `first` (position of the first token), `models`
        (`name`, `weights`: [query, key] as little-endian float16, row by row, in base64). With
        heads one by one also `apart`: `left_out` (how many more were asked for) and `heads`
        (`name`, `weights`: for each model its rows up to the diagonal).
    """
    sent = {
        "tokens": [_short(token) for token in found.tokens],
        "spans": [{"name": name, "at": [*span.positions]} for name, span in found.spans.items()],
        "first": found.first,
        "models": [
            {"name": which, "weights": packed(values)} for which, values in found.weights.items()
        ],
    }
    if found.apart:
        sent["apart"] = {"left_out": found.left_out, "heads": _apart(found)}
    return sent


def _apart(found: TextAttention) -> list[dict]:
    lower = np.tril_indices(len(found.tokens))  # nothing looks ahead
    return [
        {"name": head_name(*head), "weights": [packed(values[lower]) for values in models.values()]}
        for head, models in found.apart.items()
    ]


def packed(values: np.ndarray) -> str:
    """Numbers as little-endian float16 in base64: three digits, 2 bytes a number."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f2").tobytes()).decode()


def unpacked(text: str, side: int) -> np.ndarray:
    """The inverse of `packed`: [side, side] float32."""
    return np.frombuffer(base64.b64decode(text), "<f2").reshape(side, side).astype(np.float32)


def page(data: dict, title: str, caption: str) -> str:
    """The component as one HTML text that opens offline and asks nothing of anybody.

    A content security policy blocks all requests and all other scripts.

    Args:
        data: `payload`.
        title: title of the page.
        caption: what is shown, and its provenance.
    """
    script = f"{SCRIPT}\n{_MOUNT}"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; "
        f"style-src '{_digest(STYLE)}' '{_digest(_PAGE_STYLE)}'"
    )
    # Only its end tag closes a script block, so `<` is written as an escape.
    inert = json.dumps(data).replace("<", "\\u003c")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title>",
            f"<style>{_PAGE_STYLE}</style><style>{STYLE}</style></head>",
            f"<body><h1>{escape(title)}</h1><figure><main></main>",
            f"<figcaption>{escape(' '.join(caption.split()))}</figcaption></figure>",
            f'<script type="application/json">{inert}</script>',
            f'<script type="module">{script}</script></body></html>',
        ]
    )


def _short(token: str) -> str:
    return token if len(token) <= LONGEST else token[: LONGEST - 1] + "…"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
