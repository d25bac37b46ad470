"""A checkpoint moves without a motion module, by the page alone."""

from __future__ import annotations

from ..support.page import WebuiPage, prepare


def test_a_clip_without_a_module_is_chosen_drawn_and_pasted_again(page: WebuiPage) -> None:
    page.go("txt2img")
    prepare(page, steps=6)
    sampler = page.page.locator("#txt2img_sampling input").first  # the host's own is of the second order
    sampler.click()
    page.page.locator("ul.options li", has_text="DDIM").first.click()
    page.choose("module", "None (zero-shot)")
    page.unfold("Without a motion module")
    for name, value in {"field_x": -64, "field_y": 0, "field_t0": 401, "field_t1": 441}.items():
        page.fill(name, value)
    page.fill("frames", 4)
    page.photograph("zero-shot")
    page.generate()
    page.clips.first.wait_for(state="attached")
    page.photograph("zero-shot-drawn")
    page.fill("field_x", 0)
    page.host_fill("prompt", "")
    page.paste()
    assert (page.value("module"), page.value("field_x")) == ("None (zero-shot)", "-64")
