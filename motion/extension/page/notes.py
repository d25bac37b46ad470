"""What the page says beside its components."""

from __future__ import annotations

import html

from motion.errors import MotionError


def note(text: str) -> str:
    """A remark, in a paler colour."""
    return f"<p style='opacity: 0.6'>{html.escape(text)}</p>"


def alarm(reason: MotionError) -> str:
    """Why something cannot be done, in red."""
    return f"<p class='error' style='color: var(--error-text-color, red)'>{html.escape(str(reason))}</p>"
