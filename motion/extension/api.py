"""The routes beside the host's own: what can be asked for, and with what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

import motion
from motion.errors import MotionError
from motion.extension import guards
from motion.extension.models import library
from motion.extension.page import strip
from motion.extension.planning import key_frame_images
from motion.fields.numbers import Numbers
from motion.fields.table import DIGITS, Choice, Field, Flag, Number, Several
from motion.fields.varying import Varying
from motion.fields.weighted import Weights
from motion.hosts.webui.backends.base import loaded_base
from motion.hosts.webui.refusals import Refused
from motion.settings.key_frames import KeyFrame, KeyImages
from motion.settings.layers import FurtherModules
from motion.settings.tab import TAB_FIELDS

PREFIX = "/motion/v1"


def add_routes(page: Any, app: Any) -> None:
    """Called by the host when its server starts; the first argument is its page, or None without one."""
    login = guards.logged_in(app, page)
    told: dict[str, Callable[..., Any]] = {
        "version": version, "models": models, "schema": schema, "refusal": refusal
    }  # fmt: skip
    if page is not None:
        told["images/{digits}"] = image
        posting = [*login, Depends(guards.from_own_page)]
        for path, take in {"images": add_image, "keys": keys}.items():
            app.add_api_route(f"{PREFIX}/{path}", take, methods=["POST"], dependencies=posting)
    for path, answer in told.items():
        app.add_api_route(f"{PREFIX}/{path}", answer, methods=["GET"], dependencies=login)


async def add_image(request: Request) -> dict[str, str]:
    """Keep the picture that is the body of the request: `{"image": "its digits"}`."""
    data = await _body(request)
    with refusals():
        return {"image": await run_in_threadpool(key_frame_images.keep, data)}


async def _body(request: Request) -> bytes:
    """The request's body; of one that is too large a part that is too large as well."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > key_frame_images.MOST_BYTES:
            break
    return bytes(data)


def image(digits: str) -> Any:
    """A kept picture."""
    with refusals():
        if not KeyFrame("0", digits).is_kept:
            raise MotionError(f"{digits:.80} names no key image: give {DIGITS} hexadecimal digits")
        return FileResponse(key_frame_images.path(digits), media_type="image/png")


async def keys(request: Request) -> dict[str, Any]:
    """What the strip shows (`motion.extension.page.strip.answer`)."""
    data = await _body(request)
    with refusals():
        return await run_in_threadpool(lambda: strip.answer(_parsed(data)))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
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


def refusal(task: str = "") -> dict[str, Any]:
    """`{"sentence": "..."}`: why the page's job `task` was refused; empty if it was not."""
    return {"sentence": Refused.sentence(task)}


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
        kind: Any = "integer" if isinstance(row.default, int) else "number"
        kind = [kind, "string"] if isinstance(row, Varying) else kind
        return {"type": kind, **facts, "minimum": row.low, "maximum": row.high}
    if isinstance(row, (Choice, Several)):
        return {"type": "array" if isinstance(row, Several) else "string", **facts, "choices": list(row.choices)}
    if isinstance(row, (Weights, KeyImages, Numbers, FurtherModules)):
        return {"type": "array", **facts}
    return {"type": "boolean" if isinstance(row, Flag) else "string", **facts}
