"""The same random checkpoint of SD1.5's full size and the same random motion module, on every host and without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import motion
from motion.hosts.standalone import Standalone
from motion.hosts.standalone.samplers import scheduler
from motion.models.motion.architecture import FAMILIES
from motion.settings.choices import SAMPLERS
from motion.settings.settings import FIELDS, Clip, Size
from motion.settings.tab import TAB_FIELDS

from .support import models
from .support.models import FULL_CHECKPOINT, FULL_MODULE
from .support.webui import WHOLE, Frames, Webui
from .test_api import DENOISER

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

FRAMES, STEPS = 16, 4
CLOSE = 2
"""What a host's clip may differ by, of 255."""
CAT = Clip(
    prompt="a cat", seed=7, steps=STEPS, cfg=5, sampler="euler", size=Size(64, 64), frames=FRAMES, spacing="linspace"
)
LONG = "an oil painting of two dogs" + 80 * " a"
"""More than one window of the text encoder. It has random weights: of some texts the vectors' mean is 0, by which the
WebUIs' emphasis divides."""
MOVES = [name for name in FIELDS if name in TAB_FIELDS]
"""The settings that both hosts have."""
GUIDED = {"temporal_guidance": 1.5, "rescale_cfg": 0.7, "threshold": 0.9, "cfg_last": 9.0}
CLIPS = {
    "euler": CAT,
    "ddim": replace(CAT, sampler="ddim"),
    "travel": replace(CAT, prompt=f"a photo\n0: a cat\n5-7: {LONG}\n-2: a dog", negative=f"0: a cat\n-1: {LONG}"),
    "spherical": replace(CAT, prompt="a photo\n0: a cat\n-1: a dog", travel="spherical", loop="closed"),
    "freeinit": replace(CAT, freeinit=2, freeinit_filter="gaussian"),
    "guided": replace(CAT, **GUIDED),
    "guided ddim": replace(CAT, sampler="ddim", **GUIDED),
}


@pytest.fixture(scope="module")
def standalone() -> Callable[[str], Frames]:
    """Draws the clip of that name without a WebUI."""
    files = models.random_models(models.FULL, (models.CHECKPOINT,))
    host = Standalone.open(Path(f"{files[models.CHECKPOINT]}.safetensors"), device="cpu")
    module = motion.load(f"{files[models.MODULE]}.safetensors")
    return lambda name: host.render(CLIPS[name], module)


@pytest.fixture(scope="session")
def drawn() -> dict[str, dict[str, Frames]]:
    """The clips of the hosts so far: by name, by host."""
    return {name: {} for name in CLIPS}


def asked(webui: Webui, clip: Clip) -> Frames:
    moves = {name: getattr(clip, name) for name in MOVES}
    width, height = clip.size
    return webui.clip(
        {"module": FULL_MODULE, **moves}, prompt=clip.prompt, negative_prompt=clip.negative,
        seed=clip.seed, steps=clip.steps, cfg_scale=clip.cfg, sampler_name=SAMPLERS[clip.sampler], width=width,
        height=height, override_settings={"sd_model_checkpoint": FULL_CHECKPOINT, **WHOLE},
    ).frames  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_every_host_draws_the_same_clip(
    webui: Webui, standalone: Callable[[str], Frames], drawn: dict[str, dict[str, Frames]], name: str
) -> None:
    theirs = asked(webui, CLIPS[name])
    assert far(theirs, standalone(name)) <= CLOSE
    for other in drawn[name].values():
        assert far(theirs, other) <= 1
    drawn[name][webui.server.host.kind.name] = theirs


def far(one: Frames, other: Frames) -> int:
    """The largest difference of any value of any pixel, of 255."""
    return int(np.abs(one.astype(int) - other).max())


def noise_levels(webui: Webui, steps: int, fields: Mapping[str, object] = {}, **request: object) -> list[float]:
    """The sigmas that Euler's steps begin at in a clip of the host."""
    with webui.calls("modules.sd_samplers_cfg_denoiser.CFGDenoiser.forward") as calls:
        webui.clip(fields, sampler_name="Euler", steps=steps, **request)
    rows = ([value for value in call if isinstance(value, list) and isinstance(value[0], float)] for call in calls)
    return [sigmas[0] for sigmas, *_ in rows]


def test_the_sampler_goes_by_the_modules_schedule(webui: Webui) -> None:
    """Euler's noise levels are those of evenly spaced times on it, between its own along the logarithm."""
    steps = 5
    seen = noise_levels(webui, steps)
    alphas = FAMILIES["v3"].betas.alphas_cumprod().numpy()
    levels = np.log(((1 - alphas) / alphas) ** 0.5)
    wanted = np.exp(np.interp(np.linspace(999, 0, steps), np.arange(1000), levels))
    np.testing.assert_allclose(seen, wanted, rtol=1e-4)


def test_zero_terminal_snr_holds_for_the_modules_schedule(webui: Webui, still: str) -> None:
    """What the host's setting asks of noise schedules, it asks of this one; and the setting leaves no trace either."""
    first, *_ = noise_levels(webui, 4, override_settings={"sd_noise_schedule": "Zero Terminal SNR"})
    assert first > 1000
    assert noise_levels(webui, 4)[0] < 26


@pytest.mark.parametrize(
    ("sampler", "schedule", "most"),
    [("Euler", "SGM Uniform", 0.01), ("Euler", "Simple", 1e-3), ("LCM", "SGM Uniform", 0.1)],
)
def test_few_steps_are_ours(webui: Webui, still: str, sampler: str, schedule: str, most: float) -> None:
    """The noise levels that a denoiser is called at, against those of diffusers' schedulers with our spacing."""
    with webui.calls(DENOISER) as calls:
        webui.clip({"frames": 2}, sampler_name=sampler, scheduler=schedule, steps=STEPS)
    ours = scheduler(sampler.lower(), FAMILIES["v3"].betas, STEPS)
    alphas = ours.alphas_cumprod[[int(time) for time in ours.timesteps]]
    wanted = ((1 - alphas) / alphas).sqrt().tolist()
    assert [call[2][0] for call in calls] == pytest.approx(wanted, rel=most)
