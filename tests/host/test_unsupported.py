"""A host that lacks something, and a checkpoint of another kind: one sentence, and the host works on as it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .support.page import TABS, WebuiPage, browser_page
from .support.server import booted
from .support.webui import QUICK, Webui, changed, moving
from .test_no_trace import attempt

ABSENT = "sd_samplers_common.InterruptedException"
"""What the host is without; it needs it itself only where it is interrupted."""
MODEL, KINDS = "modules.shared.sd_model", ("is_sd1", "is_sdxl")
CHECKPOINT = "choose an SD1.5 or SDXL checkpoint"


@pytest.fixture
def unknown_checkpoint(webui: Webui) -> Iterator[None]:
    """The loaded one, said to be of no kind that we know."""
    with ExitStack() as scope:
        for kind in KINDS:
            scope.enter_context(webui.put(f"{MODEL}.{kind}", False))
        yield


def test_an_unknown_checkpoint_is_refused(webui: Webui, still: str, unknown_checkpoint: None) -> None:
    before = webui.facts()
    reply = attempt(webui, **moving())
    assert (reply.status, CHECKPOINT in reply.sentence) == (422, True), reply.body
    assert not changed(before, webui.facts())


def test_the_page_says_so_when_it_is_switched_on(page: WebuiPage, unknown_checkpoint: None) -> None:
    page.enable()
    page.motion.locator(".error", has_text=CHECKPOINT).first.wait_for(state="visible")
    page.photograph("unknown-checkpoint")


@pytest.fixture(scope="module")
def lacking(webui: Webui, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """The same host without something that we need."""
    data = tmp_path_factory.mktemp("lacking")
    with booted(webui.server.host, data, lacking=f"modules.{ABSENT}") as server:
        yield Webui(server)


def test_in_a_host_that_lacks_something_the_accordion_holds_one_sentence(lacking: Webui, browser: None) -> None:
    with browser_page(lacking.server.url) as page:
        for tab, root in TABS.items():
            page.go(tab)
            page.page.locator(f"{root} .label-wrap", has_text="Motion").click()
            sentence = page.page.locator(f"{root} .error", has_text=ABSENT)
            sentence.wait_for(state="visible")
            assert (sentence.text_content() or "").strip().startswith("Motion cannot make this clip here")
        page.photograph("lacking")
        assert not page.errors


def test_a_host_that_lacks_something_works_on(webui: Webui, lacking: Webui) -> None:
    assert lacking.txt2img(**QUICK).images == webui.txt2img(**QUICK).images
    reply = lacking.refusal({})
    assert (reply.status, ABSENT in reply.sentence) == (422, True), reply.body
