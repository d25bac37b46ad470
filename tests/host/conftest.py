"""One host for all tests of this folder, and one sentence instead of them where there is none.

    SD_WEBUI_DIR=~/stable-diffusion-webui pytest tests/host

`SD_WEBUI_PYTHON` names its interpreter where that is not `venv/bin/python` in there. The host boots once, offline, on
the processor, on a data folder of its own: its checkout is only read. `SD_WEBUI_CONTROLNET` names a checkout of
sd-webui-controlnet for the cases that take it; without it they alone are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from motion.demo.world import draw_clip, parse_caption

from . import networks
from .server import Host, HostMissing, booted
from .webui import QUICK, Frames, Webui


def pytest_runtest_setup() -> None:
    """Of the tests in this folder; before their fixtures."""
    try:
        Host.find()
    except HostMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """The host with this extension in it. Whoever changes its settings, changes them back."""
    data = tmp_path_factory.mktemp("host")
    networks.write(data)
    with booted(Host.find(), data) as server:
        host = Webui(server)
        host.txt2img()  # the first picture brings up what the host makes late
        yield host


@pytest.fixture(scope="module")
def bare_webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """The same host without this extension."""
    data = tmp_path_factory.mktemp("bare")
    networks.write(data)
    with booted(Host.find(), data, extension=False) as server:
        host = Webui(server)
        host.txt2img()
        yield host


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
