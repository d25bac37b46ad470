"""What the page says beside its components."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from motion.errors import MotionError


def note(text: str) -> str:
    """A remark."""
    return f"<p class='motion-note'>{html.escape(text)}</p>"


def alarm(reason: MotionError) -> str:
    """Why something cannot be done, in red; an address in it is a link."""
    text = re.sub(r"https?://[^\s&<>\"']+", _link, html.escape(str(reason)))
    return f"<p class='motion-alarm' role='alert'>{text}</p>"


def folded(title: str, reasons: Mapping[str, str]) -> str:
    """A line that opens to one for each name, with its reason."""
    lines = "".join(f"<li>{html.escape(f'{name}: {reason}')}</li>" for name, reason in reasons.items())
    return f"<details class='motion-note'><summary>{html.escape(title)}</summary><ul>{lines}</ul></details>"


def _link(address: re.Match[str]) -> str:
    url = address[0].rstrip(".,:;")
    return f"<a href='{url}' target='_blank' rel='noopener'>{url}</a>{address[0][len(url) :]}"
