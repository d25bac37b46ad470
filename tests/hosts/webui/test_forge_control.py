"""ControlNets of the Forge family in windows: as if they had run for the whole clip."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motion.hosts.webui.backends.forge_control import deferring
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from tests.support.small import far

LONG, LENGTH = 10, 4


class ControlNet:
    """A host's, in what it does with rows: it keeps hints in the clip's size and cuts them to the batch."""

    def __init__(self, hints: Tensor, previous: ControlNet | None = None, **weighting: Any) -> None:
        self.cond_hint_original, self.cond_hint = hints, None
        self.previous_controlnet = previous
        self.transformer_options: dict[str, Any] = {}
        self.most = 0
        vars(self).update(weighting)

    def get_control(self, x: Tensor, t: Tensor, cond: dict[str, Any], prompts: int, options: Any = None) -> Any:
        before = self.previous_controlnet and self.previous_controlnet.get_control(x, t, cond, prompts, options)
        self.most = max(self.most, len(x))
        if self.cond_hint is None:
            self.cond_hint = self.cond_hint_original.clone()
        if len(self.cond_hint) not in (1, len(x)):
            one = len(x) // prompts
            repeated = torch.cat([self.cond_hint] * -(-one // len(self.cond_hint)))[:one]
            self.cond_hint = torch.cat([repeated] * prompts)
        residual = x.mean((1, 2, 3)) + self.cond_hint.mean((1, 2, 3)) + t + cond["c_crossattn"].mean((1, 2))
        residual = residual + 3 * self.transformer_options["cond_mark"]
        if (weights := getattr(self, "advanced_frame_weighting", None)) is not None:
            residual = residual * torch.tensor(weights * prompts)
        if options is not None:
            residual = residual * (1 + options["cond_mark"])
        made = residual[:, None, None, None]
        return {"output": [made if before is None else made + before["output"][0]], "input": [], "middle": [None]}


class Unet(nn.Module):
    def forward(self, x: Tensor, timesteps: Tensor, control: Any = None, transformer_options: Any = None) -> Tensor:
        return x + control["output"].pop()


def sampled(unet: nn.Module, control: Any, prompts: int, modifier: Any = None, takes_options: bool = False) -> Tensor:
    """A step as the hosts' samplers make it."""
    generator = torch.Generator().manual_seed(0)
    conds = [{"control": control} for _ in range(prompts)]
    if modifier is not None:
        modifier(None, None, None, conds[1:], conds[:1], 7.5, {}, 0)
    x = torch.randn(LONG, 4, 8, 8, generator=generator).repeat(prompts, 1, 1, 1)
    text = torch.randn(prompts * LONG, 7, 5, generator=generator)
    mark = torch.arange(float(prompts)).repeat_interleave(LONG)
    options = {"cond_or_uncond": list(range(prompts)), "cond_mark": mark, "sigmas": torch.ones(LONG)}
    (one,) = {id(cond["control"]): cond["control"] for cond in conds}.values()
    link = one
    while link is not None:
        link.transformer_options, link = options, link.previous_controlnet
    cond, t = {"c_crossattn": text, "transformer_options": options}, torch.full((prompts * LONG,), 0.5)
    # reForge hands its very conditions over, and puts the answer among them.
    asked = cond if takes_options else cond.copy()
    cond["control"] = made = one.get_control(x, t, asked, prompts, *([options] if takes_options else []))
    output: Tensor = unet(x, timesteps=t, control=made, transformer_options=options)
    return output


def chain(kind: str) -> ControlNet:
    generator = torch.Generator().manual_seed(1)
    count = {"one image": 1, "an image for each frame": LONG, "fewer images": 3}.get(kind, LONG)
    hints = torch.randn(count, 3, 16, 16, generator=generator)
    if kind == "two, weighted by frame":
        weights = torch.rand(LONG, generator=generator).tolist()
        return ControlNet(hints, ControlNet(hints[:1]), advanced_frame_weighting=weights)
    return ControlNet(hints)


@pytest.mark.parametrize("takes_options", [False, True], ids=["Forge", "reForge"])
@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.parametrize("kind", ["one image", "an image for each frame", "fewer images", "two, weighted by frame"])
def test_windows_are_equal_to_the_whole_run(kind: str, prompts: int, takes_options: bool) -> None:
    whole = sampled(Unet(), chain(kind), prompts, takes_options=takes_options)
    control, unet = chain(kind), Unet()
    before, arrangement = dict(vars(control)), Arrangement(Windows(LONG, LENGTH, 1))
    with ExitStack() as scope:
        modifier = deferring(arrangement, scope)
        scope.enter_context(attach_windows(unet, arrangement))
        for _ in range(2):  # steps
            found = sampled(unet, control, prompts, modifier, takes_options)
            assert far(found, whole) <= 1e-6
    assert control.most == prompts * LENGTH, "no more at once than a window's"
    left = {name: value for name, value in vars(control).items() if name not in ("most", "transformer_options")}
    kept = {"cond_hint"} if kind == "one image" else set()  # as the host keeps it for the next call
    assert all(left[name] is before[name] for name in left.keys() - kept)
