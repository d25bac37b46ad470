"""The probe's routes: GET /probe/state, POST /probe/raise, /probe/disarm, /probe/nested and /probe/put.

As it is loaded it takes out of the host what the environment names, as if it were a host that has no such thing.
"""

import os
from typing import Any

from modules import call_queue, script_callbacks, scripts
from motion_probe import facts
from motion_probe.faults import Fault, resolve
from motion_probe.nested import Nested

armed: list[Fault] = []
inner = Nested()


class Probe(scripts.Script):
    """Does nothing unless it is told to."""

    def title(self) -> str:
        return "Probe"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        inner.postprocess_image(p, pp)


def state(ids: int = 1) -> dict[str, Any]:
    """The facts; after the job in progress, if there is one."""
    with call_queue.queue_lock:
        return {"facts": facts.facts(bool(ids)), "rss": facts.resident(), "imported": facts.ours()}


def arm(fault: dict[str, Any]) -> dict[str, Any]:
    """`{"where": "motion.sampling.animation.attach", "kind": "error", "after": 0}`"""
    armed.append(Fault(**fault))
    return {}


def disarm() -> list[dict[str, Any]]:
    """Take all of them back, the last one first; what became of each, in the order they were armed in."""
    reports = [fault.disarm() for fault in reversed(armed)]
    armed.clear()
    return reports[::-1]


def nested(wanted: dict[str, Any]) -> list[int]:
    """`{"kind": "copied"}`, or null for none; what was drawn since the last call."""
    drawn, inner.drawn, inner.kind = inner.drawn, [], wanted["kind"]
    return drawn


def put(wanted: dict[str, Any]) -> Any:
    """`{"where": "modules.shared.sd_model.is_sd1", "value": false}`; what was there before."""
    owner, name = resolve(wanted["where"])
    before = getattr(owner, name)
    setattr(owner, name, wanted["value"])
    return before


def on_app_started(_: Any, app: Any) -> None:
    app.add_api_route("/probe/state", state, methods=["GET"])
    app.add_api_route("/probe/raise", arm, methods=["POST"])
    app.add_api_route("/probe/disarm", disarm, methods=["POST"])
    app.add_api_route("/probe/nested", nested, methods=["POST"])
    app.add_api_route("/probe/put", put, methods=["POST"])


if lacking := os.environ.get("MOTION_PROBE_LACKING"):
    delattr(*resolve(lacking))
script_callbacks.on_app_started(on_app_started)
