"""The routes beside the host's own: what can be asked for, and with what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

import motion
from motion.errors import MotionError
from motion.extension import key_frame_images
from motion.extension.models import library
from motion.extension.page import strip
from motion.fields.table import Choice, Field, Flag, Number, Several
from motion.fields.weighted import Weights
from motion.hosts.webui.base import loaded_base
from motion.hosts.webui.job import Refused
from motion.settings.key_frames import DIGITS, KeyFrame, KeyImages
from motion.settings.tab import TAB_FIELDS

PREFIX = "/motion/v1"


def add_routes(page: Any, app: Any) -> None:
    """Called by the host when its server starts; the first argument is its page, or None without one."""
    for path, answer in {"version": version, "models": models, "schema": schema, "refusal": refusal}.items():
        app.add_api_route(f"{PREFIX}/{path}", answer, methods=["GET"])
    if page is not None:
        add_strip_routes(app)


def add_strip_routes(app: Any) -> None:
    """What the page's key frames need, for whom the page itself lets in."""
    login = [Depends(route.endpoint) for route in app.routes if getattr(route, "path", "") == "/login_check"][:1]
    app.add_api_route(f"{PREFIX}/images", add_image, methods=["POST"], dependencies=login)
    app.add_api_route(f"{PREFIX}/images/{{digits}}", image, methods=["GET"], dependencies=login)
    app.add_api_route(f"{PREFIX}/keys", keys, methods=["POST"], dependencies=login)


async def add_image(request: Request) -> dict[str, str]:
    """Keep the picture that is the body of the request: `{"image": "its digits"}`."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > key_frame_images.MOST_BYTES:
            break  # too large: it is refused as that below
    with refusals():
        return {"image": await run_in_threadpool(key_frame_images.keep, bytes(data))}


def image(digits: str) -> Any:
    """A kept picture."""
    with refusals():
        if not KeyFrame("0", digits).is_kept:
            raise MotionError(f"{digits:.80} names no key image: give {DIGITS} hexadecimal digits")
        return FileResponse(key_frame_images.path(digits), media_type="image/png")


async def keys(request: Request) -> dict[str, Any]:
    """What the strip shows (`motion.extension.page.strip.answer`)."""
    with refusals():
        return await run_in_threadpool(lambda body: strip.answer(_parsed(body)), await request.body())


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise MotionError("the request is no JSON: send an object") from error


@contextmanager
def refusals() -> Iterator[None]:
    """Within, what a user can mend is status 422 with the reason in `detail`."""
    try:
        yield
    except MotionError as error:
        raise HTTPException(422, str(error)) from error


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
    return {row.name: describe_field(row) for row in TAB_FIELDS.values()}


def describe_field(row: Field) -> dict[str, Any]:
    """One row: what it means, what it is by default and what it accepts."""
    facts: dict[str, Any] = {"label": row.label, "help": row.help, "default": row.default, "accepts": row.remedy}
    if isinstance(row, Number):
        kind = "integer" if isinstance(row.default, int) else "number"
        return {"type": kind, **facts, "minimum": row.low, "maximum": row.high}
    if isinstance(row, (Choice, Several)):
        return {"type": "array" if isinstance(row, Several) else "string", **facts, "choices": list(row.choices)}
    if isinstance(row, (Weights, KeyImages)):
        return {"type": "array", **facts}
    return {"type": "boolean" if isinstance(row, Flag) else "string", **facts}
