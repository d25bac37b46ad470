"""The hosts for all tests of this folder, and one sentence instead of them where there is none.

    SD_WEBUI_DIR=~/stable-diffusion-webui pytest tests/host
    SD_WEBUI_DIR=~/stable-diffusion-webui:~/forge:~/reforge pytest tests/host -k Forge

`SD_WEBUI_PYTHON` names their interpreters where those are not `venv/bin/python` in there. Each host boots once,
offline, on the processor, on a data folder of its own: its checkout is only read. `SD_WEBUI_CONTROLNET` names a
checkout of sd-webui-controlnet for A1111's cases that take it, `SD_WEBUI_EXTENSIONS` those of other extensions
(sd-webui-regional-prompter, stable-diffusion-webui-two-shot, sd-forge-couple); without them their cases are left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from motion.demo.world import draw_clip, parse_caption

from .support.hosts import Host, HostMissing
from .support.page import CHROMIUM, WebuiPage, browser_page
from .support.server import Server, booted
from .support.webui import QUICK, WHOLE, Frames, Webui


def pytest_runtest_setup() -> None:
    """Of the tests in this folder; before their fixtures."""
    try:
        Host.all()
    except HostMissing as reason:
        pytest.skip(str(reason))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case once for each host."""
    if "webui" in metafunc.fixturenames:
        try:
            hosts = Host.all()
        except HostMissing:
            hosts = []
        names = [host.kind.name for host in hosts]
        metafunc.parametrize("webui", hosts or [None], indirect=True, ids=names or ["no host"], scope="session")


@pytest.fixture(scope="session")
def webui(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """The host with this extension in it. Whoever changes its settings, changes them back."""
    with booted(request.param, tmp_path_factory.mktemp("host")) as server:
        yield brought_up(server)


@pytest.fixture(scope="module")
def bare_webui(webui: Webui, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """The same host without this extension."""
    with booted(webui.server.host, tmp_path_factory.mktemp("bare"), extension=False) as server:
        yield brought_up(server)


def brought_up(server: Server) -> Webui:
    """The host with all that it makes with its first pictures."""
    host = Webui(server)
    for decoder in ({}, WHOLE):
        host.txt2img(override_settings=decoder)
    return host


@pytest.fixture(scope="session")
def trained(webui: Webui) -> None:
    """For what takes models that draw what they are asked for."""
    if not webui.server.host.kind.any_width:
        pytest.skip(f"{webui.server.host.kind.name} takes no checkpoint as narrow as the bundled one")


@pytest.fixture
def still(webui: Webui) -> Iterator[str]:
    """A still of the host, which is byte-equal when the test has ended."""
    before = webui.txt2img(**QUICK).images
    yield before[0]
    assert webui.txt2img(**QUICK).images == before


@pytest.fixture
def first_frame() -> Frames:
    """A picture to start from."""
    return draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(3))[0]


@pytest.fixture
def browser() -> None:
    if find_spec("playwright") is None:
        pytest.skip("the page is tested with playwright: pip install it")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"the page is tested in a browser: there is no {CHROMIUM}")


@pytest.fixture
def page(browser: None, webui: Webui) -> Iterator[WebuiPage]:
    with browser_page(webui.server.url) as shown:
        yield shown
        assert not shown.errors
