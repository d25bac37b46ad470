"""A running host seen from outside: requests, what comes back, and what the probe knows about its inside."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from motion.weights.bundled import DEMO

from .hosts import CONTROLNET
from .models import MODULE
from .server import OPTIONS, Server

Frames = npt.NDArray[np.uint8]
Facts = Mapping[str, str]

FRAMES = 16
QUICK: Mapping[str, Any] = {
    **{"prompt": DEMO["prompt"], "negative_prompt": "", "seed": 5, "width": 64, "height": 64},
    **{"sampler_name": "DDIM", "scheduler": "Automatic", "steps": 3, "cfg_scale": float(DEMO["cfg"])},
}
"""A request whose picture does not matter."""
WHOLE: Mapping[str, Any] = {"sd_vae_decode_method": "Full"}
"""Settings of a request whose picture is compared with another host's: decoded by the checkpoint's own autoencoder."""
SECONDS = 600


class Unexpected(AssertionError):
    """The host answered with another status than the test counts on; the text ends with its log."""


@dataclass(frozen=True)
class Reply:
    """One answer, whatever its status."""

    status: int
    body: Any

    @property
    def sentence(self) -> str:
        """What a refusal says."""
        parts = ("detail", "errors", "message") if self.status >= 400 else ()  # Forge's has the last, the others errors
        return " ".join(str(self.body.get(part, "")) for part in parts)


@dataclass(frozen=True)
class Clip:
    """One clip of an answer: its cover, its frames and its files, which are entries of `info["clips"]`."""

    cover: Frames
    frames: Frames
    files: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        seed: int = self.files[0]["seed"]
        return seed


@dataclass(frozen=True)
class Result:
    """An answer with pictures."""

    body: dict[str, Any] = field(repr=False)

    @property
    def images(self) -> list[str]:
        """The files as they came, PNG in base64."""
        images: list[str] = self.body["images"]
        return images

    @cached_property
    def pictures(self) -> Frames:
        """All pictures, uint8 ``[n, h, w, 3]``."""
        return np.stack([picture(image) for image in self.images])

    @cached_property
    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self.body["info"])
        return info

    @cached_property
    def clips(self) -> list[Clip]:
        """The pictures are the covers of all clips, then the frames of all clips."""
        files = [list(group) for _, group in groupby(self.info.get("clips", []), key=lambda file: file["seed"])]
        assert files and len(self.images) % len(files) == 0, f"{len(self.images)} pictures for {len(files)} clips"
        frames = np.split(self.pictures[len(files) :], len(files))
        return [Clip(*parts) for parts in zip(self.pictures, frames, files, strict=False)]

    @property
    def frames(self) -> Frames:
        """The frames of the only clip."""
        (clip,) = self.clips
        return clip.frames


def picture(image: str) -> Frames:
    """A picture in base64 as uint8 ``[h, w, 3]``."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def encoded(frame: Frames) -> str:
    """The picture as a request wants it."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def moving(**fields: Any) -> dict[str, Any]:
    """The part of a request that asks for a clip."""
    return {"alwayson_scripts": {"Motion": {"args": [{"module": MODULE, "frames": FRAMES, **fields}]}}}


def reference(image: str) -> dict[str, Any]:
    """The scripts of a request that has sd-webui-controlnet look at an image, by the means that needs no model."""
    unit = {"enabled": True, "module": "reference_only", "model": "None", "image": image}
    return {"ControlNet": {"args": [unit]}}


needs_controlnet = pytest.mark.skipif(
    not os.environ.get(CONTROLNET), reason=f"set {CONTROLNET} to a checkout of sd-webui-controlnet to test with it"
)


@dataclass(frozen=True)
class Webui:
    """A running host."""

    server: Server

    def reply(self, path: str, body: object = None, method: str | None = None) -> Reply:
        """GET, or POST if there is a body; the answer whatever its status."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.server.url + path, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=SECONDS) as response:
                return Reply(response.status, _parsed(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, _parsed(error.read()))

    def get(self, path: str, **query: object) -> Any:
        text = urllib.parse.urlencode(query)
        return self._fine(self.reply(f"{path}?{text}" if text else path))

    def post(self, path: str, body: object = None) -> Any:
        return self._fine(self.reply(path, {} if body is None else body, "POST"))

    def _drawn(self, tab: str, request: Mapping[str, Any]) -> Result:
        assert request.get("override_settings", {}).keys() <= OPTIONS.keys(), "the host would not take it back"
        wanted = self.server.host.kind.hires if request.get("enable_hr") else {}
        return Result(self.post(f"/sdapi/v1/{tab}", {**QUICK, **wanted, **request}))

    def _fine(self, reply: Reply) -> Any:
        if reply.status >= 300:
            raise Unexpected(f"status {reply.status}: {str(reply.body)[:1000]}\n{self.server.log_tail()}")
        return reply.body

    def txt2img(self, **request: Any) -> Result:
        return self._drawn("txt2img", request)

    def img2img(self, *init: Frames, **request: Any) -> Result:
        first = {"denoising_strength": 0.7, "init_images": list(map(encoded, init))}
        return self._drawn("img2img", {**first, **request})

    def clip(self, fields: Mapping[str, Any] = {}, **request: Any) -> Result:
        """txt2img with the tab's `fields`."""
        return self.txt2img(**moving(**fields), **request)

    def refusal(self, fields: Mapping[str, Any], **request: Any) -> Reply:
        """What txt2img answers to `fields` that cannot be done."""
        return self.reply("/sdapi/v1/txt2img", {**QUICK, **moving(**fields), **request})

    def options(self, **changes: Any) -> dict[str, Any]:
        """Change the host's settings, return them all."""
        if changes:
            self.post("/sdapi/v1/options", changes)
        settings: dict[str, Any] = self.get("/sdapi/v1/options")
        return settings

    def interrupt(self) -> None:
        self.post("/sdapi/v1/interrupt")

    def skip(self) -> None:
        self.post("/sdapi/v1/skip")

    @property
    def step(self) -> int:
        """The step that the job in progress is at; 0 if there is none."""
        state = self.get("/sdapi/v1/progress", skip_current_image="true")["state"]
        return int(state["sampling_step"]) if state["job_count"] else 0

    def facts(self, ids: bool = True) -> Facts:
        """What must be the same before and after a job, line by line; with `ids` down to the same objects."""
        facts: Facts = self.get("/probe/state", ids=int(ids))["facts"]
        return facts

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        rss: int = self.get("/probe/state", ids=0)["rss"]
        return rss

    @contextmanager
    def fault(self, where: str, kind: str, after: int = 0) -> Iterator[None]:
        """Within it `kind` happens once, in call number `after` + 1 of `where`; it is an error if it does not."""
        self.post("/probe/raise", {"where": where, "kind": kind, "after": after})
        try:
            yield
        finally:
            report = self.post("/probe/disarm")
        assert report[0]["fired"], f"{where} was called {report[0]['calls']} times: nothing happened"

    @contextmanager
    def calls(self, where: str) -> Iterator[list[list[Any]]]:
        """A list that holds on exit what each call of `where` was given: tensors by shape, rows of numbers by value."""
        seen: list[list[Any]] = []
        self.post("/probe/raise", {"where": where, "kind": "watch"})
        try:
            yield seen
        finally:
            seen += self.post("/probe/disarm")[0]["seen"]

    @contextmanager
    def put(self, where: str, value: object) -> Iterator[None]:
        """Within it the host has `value` at a dotted path."""
        before = self.post("/probe/put", {"where": where, "value": value})
        try:
            yield
        finally:
            self.post("/probe/put", {"where": where, "value": before})

    @contextmanager
    def nested(self, kind: str) -> Iterator[list[int]]:
        """Within it each picture of a job is drawn once more by a job of its own (see the probe's `Nested`); a list
        that holds on exit how many pictures each of those brought."""
        drawn: list[int] = []
        self.post("/probe/nested", {"kind": kind})
        try:
            yield drawn
        finally:
            drawn += self.post("/probe/nested", {"kind": None})


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"errors": text.decode(errors="replace")}


def changed(before: Facts, after: Facts) -> dict[str, tuple[str | None, str | None]]:
    """The facts that are not the same."""
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def apart(first: Frames, second: Frames) -> float:
    """Mean difference of two pictures or clips, of 255."""
    assert first.shape == second.shape, f"{first.shape} and {second.shape}"
    return float(np.abs(first.astype(np.float32) - second.astype(np.float32)).mean())
