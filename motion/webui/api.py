"""The routes beside the host's own: what can be asked for, and with what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import motion
from motion.errors import MotionError
from motion.fields import Choice, Field, Flag, Number, Several
from motion.hosts.base import loaded_base
from motion.tab import TAB_FIELDS
from motion.webui.job import Refused
from motion.webui.models import library
from motion.weighted import Weights


def add_routes(_: Any, app: Any) -> None:
    """Called by the host when its server starts; the first argument is its page, or None without one."""
    for path, answer in {"version": version, "models": models, "schema": schema, "refusal": refusal}.items():
        app.add_api_route(f"/motion/v1/{path}", answer, methods=["GET"])


def version() -> dict[str, Any]:
    """`{"version": "..."}`"""
    return {"version": motion.__version__}


def refusal() -> dict[str, Any]:
    """`{"sentence": "..."}`: why the newest job was refused; empty if it was not."""
    return {"sentence": Refused.last}


def models() -> list[dict[str, Any]]:
    """The files in the user's folders: name, path, what each is, and why it does not fit the loaded checkpoint."""
    files, base, unsuited = library(), None, None
    try:
        base = loaded_base()
    except MotionError as error:
        unsuited = str(error)
    listed = []
    for entry in files.entries():
        found = files.describe(entry)
        misfit = unsuited or files.misfit(found, base)
        listed.append({"name": entry.name, "path": str(entry.path), **asdict(found), "misfit": misfit})
    return listed


def schema() -> dict[str, Any]:
    """The settings of `alwayson_scripts.Motion.args[0]`, by field name."""
    return {row.name: described(row) for row in TAB_FIELDS.values()}


def described(row: Field) -> dict[str, Any]:
    """One row: what it means, what it is by default and what it accepts."""
    facts: dict[str, Any] = {"label": row.label, "help": row.help, "default": row.default, "accepts": row.remedy}
    if isinstance(row, Number):
        kind = "integer" if isinstance(row.default, int) else "number"
        return {"type": kind, **facts, "minimum": row.low, "maximum": row.high}
    if isinstance(row, (Choice, Several)):
        return {"type": "array" if isinstance(row, Several) else "string", **facts, "choices": list(row.choices)}
    if isinstance(row, Weights):
        return {"type": "array", **facts}
    return {"type": "boolean" if isinstance(row, Flag) else "string", **facts}
