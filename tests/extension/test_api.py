"""The extension's routes: whom they answer, and what they make of whatever is sent to them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

fastapi = pytest.importorskip("fastapi", reason="the routes are a WebUI's: pip install fastapi httpx")
testclient = pytest.importorskip("fastapi.testclient")

from motion.errors import MotionError  # noqa: E402
from motion.extension import api  # noqa: E402
from motion.hosts.webui.refusals import KEPT, Refused  # noqa: E402

TASK = "task(a1b2c3)"
ROUTES = {"version": "get", "models": "get", "schema": "get", "refusal": "get", "images": "post", "keys": "post"}
OTHER = "https://example.org"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def host(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the routes ask of a host; its arguments may be changed."""
    arguments = SimpleNamespace(
        gradio_allowed_path=[], motion_dir=[], lora_dir=None, controlnet_dir=None, cors_allow_origins=None,
        cors_allow_origins_regex=None,
    )  # fmt: skip
    options = SimpleNamespace(data={}, img2img_background_color="#ffffff")
    pretend: dict[str, Any] = {
        "shared": SimpleNamespace(opts=options, cmd_opts=arguments),
        "paths": SimpleNamespace(models_path=str(tmp_path), data_path=str(tmp_path)),
        "sd_models": SimpleNamespace(model_data=SimpleNamespace(sd_model=None)),
        "progress": SimpleNamespace(current_task=TASK),
    }
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in pretend.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", content)
    monkeypatch.setattr(Refused, "_told", {})
    return SimpleNamespace(arguments=arguments, progress=pretend["progress"])


def client(page: Any = "page", login: bool = False, credentials: bool = False) -> Any:
    """A browser, or a program, at a host whose page or API wants to know who it is."""
    app = fastapi.FastAPI()

    def no() -> None:
        raise fastapi.HTTPException(401, "Not authenticated")

    if page is not None:
        app.add_api_route("/login_check", no if login else lambda: None)
    app.add_api_route("/sdapi/v1/options", lambda: None, dependencies=[fastapi.Depends(no)] if credentials else [])
    api.add_routes(page, app)
    return testclient.TestClient(app, raise_server_exceptions=False)


def statuses(browser: Any, **headers: str) -> Iterator[tuple[str, int]]:
    for path, method in ROUTES.items():
        yield path, getattr(browser, method)(f"/motion/v1/{path}", headers=headers).status_code


def test_where_the_page_asks_for_a_login_so_do_the_routes(host: Any) -> None:
    assert {status for _, status in statuses(client(login=True))} == {401}
    assert dict(statuses(client(login=True, page=None)))["models"] == 200, "there is no page"
    assert 401 not in {status for _, status in statuses(client(credentials=True))}, "the page is open"


def test_without_a_page_the_hosts_api_says_who_may(host: Any) -> None:
    found = dict(statuses(client(page=None, credentials=True)))
    assert found == {path: 404 if method == "post" else 401 for path, method in ROUTES.items()}


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "http://testserver"}, False),
        ({"origin": "https://proxy.example.org", "x-forwarded-host": "proxy.example.org"}, False),
        ({"origin": "https://proxy.example.org", "sec-fetch-site": "same-origin"}, False),
        ({"origin": OTHER}, True),
        ({"origin": OTHER, "sec-fetch-site": "cross-site"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://testserver.example.org"}, True),
    ],
)
def test_other_sites_cannot_post(host: Any, headers: dict[str, str], refused: bool) -> None:
    found = dict(statuses(client(), **headers))
    assert {path: found[path] == 403 for path in ("images", "keys")} == {"images": refused, "keys": refused}
    assert found["models"] == 200


@pytest.mark.parametrize("argument", [{"cors_allow_origins": f"a.b,{OTHER}"}, {"cors_allow_origins_regex": "https.*"}])
def test_sites_that_the_user_lets_in_can(host: Any, argument: dict[str, str]) -> None:
    vars(host.arguments).update(argument)
    assert dict(statuses(client(), origin=OTHER))["keys"] == 422


def test_a_refusal_is_told_to_whoever_knows_its_job(host: Any) -> None:
    Refused(MotionError("my-private-face is not there"))
    browser = client()
    asked = [browser.get("/motion/v1/refusal", params=query).json() for query in ({"task": TASK}, {"task": "x"}, {})]
    assert [answer["sentence"] for answer in asked] == ["my-private-face is not there", "", ""]
    for number in range(KEPT):
        host.progress.current_task = f"task({number})"
        Refused(MotionError("another"))
    assert (Refused.sentence(TASK), Refused.sentence("task(0)")) == ("", "another")


def test_a_host_without_a_task_has_nobody_to_tell(host: Any) -> None:
    host.progress.current_task = None
    assert Refused(MotionError("no")).status_code == 422
    assert Refused.sentence("") == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=JSON
    | st.fixed_dictionaries({"frames": st.just(16) | JSON}, optional={"key_frames": JSON, "preset": JSON})
    | st.fixed_dictionaries(
        {
            "frames": st.just(16),
            "key_frames": st.lists(st.fixed_dictionaries({"image": JSON}, optional={"frame": JSON})),
        }
    )
)
def test_whatever_is_posted_is_answered_or_refused(host: Any, body: Any) -> None:
    assert client().post("/motion/v1/keys", content=json.dumps(body)).status_code in (200, 422)


@pytest.mark.parametrize("body", [b"\xff", b"{", b"[" * 100_000, b""])
def test_what_is_no_json_is_refused(host: Any, body: bytes) -> None:
    assert client().post("/motion/v1/keys", content=body).status_code == 422
