"""SDXL checkpoints and their motion modules in the host."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import motion
from motion.hosts.standalone import Standalone
from motion.models.motion.architecture import FAMILIES
from motion.settings.settings import Clip, Size

from .support import models, sdxl
from .support.webui import WHOLE, Frames, Webui, apart, changed
from .test_same_clip import CLOSE, far, noise_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

FRAMES, STEPS = 8, 4
CLIP = Clip(prompt="a cat", negative="", seed=7, steps=STEPS, cfg=5, sampler="euler", size=Size(64, 64), frames=FRAMES)
REQUEST = {
    **{"prompt": CLIP.prompt, "negative_prompt": CLIP.negative, "seed": CLIP.seed, "steps": CLIP.steps},
    **{"cfg_scale": CLIP.cfg, "sampler_name": "Euler"},
}
FIELDS = {"module": sdxl.MODULE, "frames": FRAMES}


@pytest.fixture(scope="module")
def loaded(webui: Webui) -> Iterator[None]:
    """The host with the SDXL checkpoint in it."""
    sdxl.place(webui.server.data, config=webui.server.host.kind.any_width)
    webui.post("/sdapi/v1/refresh-checkpoints")
    before = {name: webui.options()[name] for name in ("sd_model_checkpoint", *WHOLE)}
    webui.options(sd_model_checkpoint=f"{sdxl.CHECKPOINT}.safetensors", **WHOLE)
    webui.txt2img(**REQUEST)
    yield
    webui.options(**before)
    webui.txt2img()


@pytest.fixture
def untouched(webui: Webui, loaded: None) -> Iterator[None]:
    """What must be the same after a job is the same."""
    before, still = webui.facts(), webui.txt2img(**REQUEST).images
    yield
    assert webui.txt2img(**REQUEST).images == still
    assert not changed(before, webui.facts())


@pytest.fixture(scope="module")
def clip(webui: Webui, loaded: None) -> Frames:
    return webui.clip(FIELDS, **REQUEST).frames


def test_a_clip_moves_and_leaves_no_trace(webui: Webui, untouched: None) -> None:
    moved = webui.clip({**FIELDS, "seed_mode": "frame"}, **REQUEST).frames
    plain = webui.txt2img(**REQUEST, batch_size=FRAMES).pictures[-FRAMES:]
    assert apart(moved, plain) > 0.5


def test_it_is_the_standalone_hosts_clip(clip: Frames) -> None:
    host = Standalone.open(sdxl.checkpoint(), device="cpu")
    assert far(clip, host.render(CLIP, motion.load(sdxl.module()))) <= CLOSE


def test_the_sampler_goes_by_its_modules_schedule(webui: Webui, loaded: None) -> None:
    first, *_ = noise_levels(webui, STEPS, FIELDS)
    last = FAMILIES["sdxl"].betas.alphas_cumprod()[-1].item()
    np.testing.assert_allclose(first, ((1 - last) / last) ** 0.5, rtol=1e-4)


def test_windows(webui: Webui, untouched: None) -> None:
    cut = {**FIELDS, "frames": 2 * FRAMES, "context_length": FRAMES, "context_overlap": 2}
    assert len(webui.clip(cut, **REQUEST).frames) == 2 * FRAMES


def test_a_module_of_sd15_is_refused(webui: Webui, untouched: None) -> None:
    answer = webui.refusal({"module": models.MODULE, "frames": FRAMES}, **REQUEST)
    assert answer.status == 422
    assert "does not fit" in answer.sentence
