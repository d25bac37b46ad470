from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from motion.errors import MotionError
from motion.models.motion.architecture import FAMILIES, Architecture, Family, Slot
from motion.models.motion.model import MotionModel
from motion.settings.choices import MODULE_FAMILIES

SD15 = (320, 640, 1280, 1280)
SDXL = (320, 640, 1280)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=str)
def test_betas_mean_what_diffusers_means(family: Family) -> None:
    betas = family.betas
    scheduler = DDIMScheduler(beta_schedule=betas.schedule, beta_start=betas.start, beta_end=betas.end)
    torch.testing.assert_close(betas.alphas_cumprod().float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0)


PUBLISHED = {
    **dict.fromkeys(("v1", "v2", "v3", "animatelcm"), ("linear", 0.00085, 0.012)),
    "sdxl": ("scaled_linear", 0.00085, 0.020),
    "hotshot": ("scaled_linear", 0.00085, 0.012),
}
"""The schedules of the authors' configurations."""


def test_settings_name_every_family() -> None:
    assert MODULE_FAMILIES.keys() == {"auto", *FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_betas_begin_and_end_where_the_authors_do(family: str) -> None:
    schedule, start, end = PUBLISHED[family]
    betas = FAMILIES[family].betas
    assert betas.schedule == schedule
    assert betas.values()[0].item() == pytest.approx(start)
    assert betas.values()[-1].item() == pytest.approx(end)


@pytest.mark.parametrize(
    ("family", "widths", "positions", "mid", "parameters", "keys"),
    [
        ("v1", SD15, 24, False, 417_137_600, 560),
        ("v2", SD15, 32, True, 453_209_280, 588),
        ("animatelcm", SD15, None, True, 453_209_280, 546),
        ("sdxl", SDXL, 32, False, 236_779_200, 420),
        ("hotshot", SDXL, 24, False, 236_779_200, 420),
    ],
)
def test_published_sizes(
    family: str, widths: tuple[int, ...], positions: int | None, mid: bool, parameters: int, keys: int
) -> None:
    with torch.device("meta"):
        model = MotionModel(Architecture.of_unet(family, widths, positions=positions, mid=mid))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == keys


def test_the_shortest_table_limits_the_clip() -> None:
    slots = (Slot("a", 32, positions=24), Slot("b", 32, positions=16), Slot("c", 32, positions=None))
    assert Architecture(FAMILIES["v3"], slots).max_frames == 16
    assert Architecture(FAMILIES["animatelcm"], slots[2:]).max_frames == 64


def test_a_width_that_the_norm_cannot_divide_is_named() -> None:
    with pytest.raises(MotionError, match=r"down_blocks\.0\.motion_modules\.0 has 40 channels"):
        Slot("down_blocks.0.motion_modules.0", 40)
