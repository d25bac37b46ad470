"""What the page says beside its components."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from PIL import Image

from motion.errors import MotionError


def note(text: str) -> str:
    """A remark."""
    return f"<p class='motion-note'>{html.escape(text)}</p>"


def alarm(reason: MotionError) -> str:
    """Why something cannot be done, in red; an address in it is a link."""
    text = re.sub(r"https?://[^\s&<>\"']+", _link, html.escape(str(reason)))
    return f"<p class='motion-alarm' role='alert'>{text}</p>"


def strip(frames: Iterable[Any], height: int) -> str:
    """Small pictures of frames, uint8 ``[h, w, 3]``, side by side."""
    return f"<div class='motion-glimpses'>{''.join(_picture(frame, height) for frame in frames)}</div>"


def _picture(frame: Any, height: int) -> str:
    picture, data = Image.fromarray(frame), BytesIO()
    picture.resize((max(1, round(picture.width * height / picture.height)), height)).save(data, "JPEG")
    return f"<img alt='' src='data:image/jpeg;base64,{b64encode(data.getvalue()).decode()}'>"


def folded(title: str, reasons: Mapping[str, str]) -> str:
    """A line that opens to one for each name, with its reason."""
    lines = "".join(f"<li>{html.escape(f'{name}: {reason}')}</li>" for name, reason in reasons.items())
    return f"<details class='motion-note'><summary>{html.escape(title)}</summary><ul>{lines}</ul></details>"


def _link(address: re.Match[str]) -> str:
    url = address[0].rstrip(".,:;")
    return f"<a href='{url}' target='_blank' rel='noopener'>{url}</a>{address[0][len(url) :]}"
