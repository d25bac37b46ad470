"""The probe's routes: GET /probe/state, POST /probe/raise, POST /probe/disarm."""

from typing import Any

from modules import call_queue, script_callbacks
from motion_probe import facts
from motion_probe.faults import Fault

armed: list[Fault] = []


def state(ids: int = 1) -> dict[str, Any]:
    """The facts; after the job in progress, if there is one."""
    with call_queue.queue_lock:
        return {"facts": facts.facts(bool(ids)), "rss": facts.resident(), "imported": facts.ours()}


def arm(fault: dict[str, Any]) -> dict[str, Any]:
    """`{"where": "motion.animation.attach", "kind": "error", "after": 0}`"""
    armed.append(Fault(**fault))
    return {}


def disarm() -> list[dict[str, Any]]:
    """Take all of them back, the last one first; what became of each, in the order they were armed in."""
    reports = [fault.disarm() for fault in reversed(armed)]
    armed.clear()
    return reports[::-1]


def on_app_started(_: Any, app: Any) -> None:
    app.add_api_route("/probe/state", state, methods=["GET"])
    app.add_api_route("/probe/raise", arm, methods=["POST"])
    app.add_api_route("/probe/disarm", disarm, methods=["POST"])


script_callbacks.on_app_started(on_app_started)
