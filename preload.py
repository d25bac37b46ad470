"""What a WebUI host runs before it reads its command line: the extension's own options."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    """Add `--motion-dir` to the host's options, as `motion_dir`: a list of paths."""
    # A list by default: the host's API declares the type of each option by its default, and answers nothing else.
    parser.add_argument(
        "--motion-dir", action="append", default=[], metavar="DIR", help="more folders with motion modules"
    )
