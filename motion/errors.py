"""The one exception a user is meant to read."""

from __future__ import annotations


class MotionError(ValueError):
    """Something the user can mend: one sentence that names the value and the remedy.

    The command line prints it as a single line and ends with exit code 2; a WebUI host shows it in the page.
    """
