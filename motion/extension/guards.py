"""Whom the extension's routes answer: whoever the page lets in, or the host's own API where there is no page."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request

from motion.hosts.webui.backends.base import host_module

LOGIN = "/login_check"
"""The page's route whose answer is an error for whoever is not logged in."""
OWN_ROUTE = "/sdapi/v1/options"
"""A route of the host's own API."""


def logged_in(app: Any, page: Any) -> list[Any]:
    """What the host has its page, or its API without one, depend on: none where anybody may use it."""
    routes = {getattr(route, "path", ""): route for route in app.routes}
    if page is not None:
        return [Depends(routes[LOGIN].endpoint)] if LOGIN in routes else []
    return list(routes[OWN_ROUTE].dependencies) if OWN_ROUTE in routes else []


def from_own_page(request: Request) -> None:
    """Let no other site post through the browser of somebody who may: 403 for an origin that is not the host's own.

    Programs send none. What the user lets in with `--cors-allow-origins` may post.
    """
    origin = request.headers.get("origin")
    if origin is None or request.headers.get("sec-fetch-site") == "same-origin":
        return
    own = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    if urlsplit(origin).netloc in own or _is_allowed(origin):
        return
    raise HTTPException(403, f"{origin} is not this WebUI: allow it with --cors-allow-origins={origin}")


def _is_allowed(origin: str) -> bool:
    arguments = host_module("shared").cmd_opts
    listed = (getattr(arguments, "cors_allow_origins", None) or "").split(",")
    pattern = getattr(arguments, "cors_allow_origins_regex", None)
    return origin in listed or bool(pattern and re.fullmatch(pattern, origin))
