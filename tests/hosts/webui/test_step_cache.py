"""The step cache as the WebUIs' denoisers and ControlNets meet it, with stand-ins for these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.webui.backends import base
from motion.hosts.webui.backends.forge_control import deferring
from motion.hosts.webui.controlnet.cached import follow_cache
from motion.hosts.webui.sampling import Sampling
from motion.sampling import step_cache
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from tests.support.small import TEXT, Counted, batch, far
from tests.support.trace import everything

FRAMES, STEPS = 4, 8
pytestmark = pytest.mark.usefixtures("inference")


class Entry(NamedTuple):
    """The hosts' `ScheduledPromptConditioning`."""

    end_at_step: int
    cond: Tensor


def schedule(*ends: int) -> list[Entry]:
    """A text that is another after each of the steps, as of `[a:b:0.5]`."""
    return [Entry(end, torch.randn(7, TEXT)) for end in (*ends, STEPS)]


class Denoiser(nn.Module):
    """The hosts' `CFGDenoiser`: of each schedule it takes what holds in its step."""

    def __init__(self, predict: Callable[[Tensor, Tensor, Tensor, Any], Tensor], calls: Sequence[list[int]]) -> None:
        super().__init__()
        self.predict, self.calls = predict, calls
        self.step, self.total_steps = 0, STEPS

    def forward(self, x: Tensor, sigma: Tensor, cond: Any, uncond: Any) -> None:
        texts = [[part.schedules for (part,) in cond.batch], uncond]
        held = [torch.stack([self._held(each) for each in text]) for text in texts]
        for kinds in self.calls:
            text = torch.cat([held[kind] for kind in kinds])
            self.predict(x.repeat(len(kinds), 1, 1, 1), sigma.repeat(len(kinds)), text, {"cond_or_uncond": kinds})
        self.step += 1

    def _held(self, entries: list[Entry]) -> Tensor:
        return next(entry.cond for entry in entries if self.step <= entry.end_at_step)


@pytest.mark.parametrize("told", [False, True], ids=["A1111", "Forge"])
def test_a_step_with_another_text_is_whole(unet: nn.Module, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """A1111 says nothing of its calls, the Forge family what each is for."""
    plain = unet.forward
    monkeypatch.setattr(unet, "forward", lambda x, t, text, transformer_options: plain(x, t, text))

    def predict(x: Tensor, t: Tensor, text: Tensor, options: Any) -> Tensor:
        return unet(x, t, text, transformer_options=options if told else {}).sample

    denoiser = Denoiser(predict, [[1], [0]] if told else [[0, 1]])
    made = SimpleNamespace(create_sampler=lambda: SimpleNamespace(model_wrap_cfg=denoiser))
    monkeypatch.setattr(base, "host_module", {"sd_samplers": made}.__getitem__)
    sampling = Sampling(Tab(), None, Windows(FRAMES))
    arrangement, (x, t, _), first = sampling.arrangement, batch(FRAMES, size=(8, 8)), schedule(2)
    arrangement.pause = lambda: None
    asked = {
        "cond": SimpleNamespace(batch=[[SimpleNamespace(schedules=first)]] * FRAMES),
        "uncond": [schedule(2, 4)] * FRAMES,
    }
    counts = []
    with ExitStack() as undo, Counted(unet) as computed:
        sampling._hear_of_steps(undo)
        made.create_sampler()
        undo.enter_context(attach_windows(unet, arrangement))
        undo.enter_context(step_cache.attach(unet, arrangement, 100))
        for step in range(STEPS):
            denoiser(x, t - 100 * step, **asked)
            counts.append(len(computed))
            computed.clear()
    assert [step for step, count in enumerate(counts) if count] == [0, 1, 3, 5, STEPS - 1]


class Plugged(nn.Module):
    """A network as sd-webui-controlnet wraps it."""

    def __init__(self, network: ControlNetModel) -> None:
        super().__init__()
        self.control_model = network

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> list[Tensor]:
        hint = torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64).expand(len(x), 3, -1, -1)
        down, middle = self.control_model(x, t, text, hint, return_dict=False)
        return [*down, middle]


@pytest.fixture
def network(unet: Any) -> Plugged:
    torch.manual_seed(0)
    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 4, 4))
    for layer in (*made.controlnet_down_blocks, made.controlnet_mid_block, made.controlnet_cond_embedding.conv_out):
        nn.init.normal_(layer.weight, std=0.1)
    return Plugged(made.eval().requires_grad_(False))


class Control:
    """A control of the Forge family's."""

    previous_controlnet, timestep_range, cond_hint_original = None, (900.0, 600.0), None

    def __init__(self, network: Plugged, acts: tuple[float, float]) -> None:
        self.network, self.control_model = network, network.control_model
        self.timestep_percent_range = acts

    def get_control(self, x: Tensor, t: Tensor, cond: Any, prompts: int) -> Any:
        start, end = self.timestep_range
        if self.timestep_percent_range != (0.0, 1.0) and not end <= float(t[0]) <= start:
            return None
        *down, middle = self.network(x, t, cond["c_crossattn"])
        return {"output": down, "middle": [middle]}


def added(control: Any) -> dict[str, Any]:
    """A host's residuals, as diffusers' UNet takes them."""
    if control is None:
        return {}
    return {
        "down_block_additional_residuals": control["output"],
        "mid_block_additional_residual": control["middle"][-1],
    }


Predict = Callable[[int], Tensor]


@pytest.fixture(params=["A1111", "Forge", "Forge in windows"])
def controlled(
    request: pytest.FixtureRequest, unet: nn.Module, network: Plugged, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[ExitStack, int, tuple[float, float]], Predict]]:
    """What attaches all that a job does, and returns what predicts at a time step."""
    plain, (x, t, text) = unet.forward, batch(FRAMES, size=(8, 8))
    windows = Windows(FRAMES, 2, 0) if "windows" in request.param else Windows(FRAMES)
    arrangement = Arrangement(windows)

    def attach(scope: ExitStack, interval: int, acts: tuple[float, float] = (0.0, 1.0)) -> Predict:
        param = SimpleNamespace(control_model=network, control_model_type=None, guidance_stopped=False)
        control = Control(network, acts)

        def forward(x: Tensor, t: Tensor, text: Tensor, control: Any = None) -> Tensor:
            if request.param == "A1111" and not param.guidance_stopped:
                *down, middle = network(x, t, text)
                control = {"output": down, "middle": [middle]}
            output: Tensor = plain(x, t, text, **added(control)).sample
            return output

        scope.enter_context(pytest.MonkeyPatch.context()).setattr(unet, "forward", forward)
        scope.enter_context(attach_windows(unet, arrangement))
        if interval > 1:
            scope.enter_context(step_cache.attach(unet, arrangement, interval))
        modify = None
        if request.param == "A1111":
            follow_cache([param, param], arrangement, scope)
        else:
            modify = deferring(arrangement, scope)

        def predict(time: int) -> Tensor:
            param.guidance_stopped = acts != (0.0, 1.0) and not 600 <= time <= 900
            now, told = torch.full_like(t, time), {}
            if modify is not None:
                prompt: dict[str, Any] = {"control": control}
                modify(None, x, now, None, [prompt])
                told = {"control": prompt["control"].get_control(x, now, {"c_crossattn": text}, 1)}
            arrangement.step_begins()
            output: Tensor = unet(x, now, text, **told)
            return output

        return predict

    yield attach


def test_of_a_control_the_outermost_residual_alone_is_asked_for(
    unet: nn.Module, network: Plugged, controlled: Any
) -> None:
    """With the same input the step is that of all layers, and the network is as before."""
    before = everything(network), everything(unet)
    with ExitStack() as scope, Counted(network.control_model) as computed:
        predict = controlled(scope, 100)
        predict(950)
        whole, calls = predict(950), len(computed)
        assert far(predict(950), whole) <= 1e-6 and len(computed) == calls > 0
    with ExitStack() as scope:
        plain = controlled(scope, 1)(950)
    assert far(whole, plain) <= 1e-6
    network.control_model.controlnet_down_blocks[0].weight.mul_(2)
    with ExitStack() as scope:
        assert far(controlled(scope, 1)(950), plain) > 1e-3, "which counts"
    network.control_model.controlnet_down_blocks[0].weight.div_(2)
    assert (everything(network), everything(unet)) == before


def test_a_step_in_which_a_control_starts_or_ends_is_whole(unet: nn.Module, controlled: Any) -> None:
    counts = []
    with ExitStack() as scope, Counted(unet) as computed:
        predict = controlled(scope, 100, (0.1, 0.4))
        for time in (950, 940, 930, 900, 700, 500, 400):
            predict(time)
            counts.append(len(computed) > 0)
            computed.clear()
    assert counts == [True, True, False, True, False, True, False]


def test_units_that_call_the_unet_themselves_are_refused() -> None:
    param = SimpleNamespace(control_model=None, control_model_type=SimpleNamespace(name="AttentionInjection"))
    with ExitStack() as scope, pytest.raises(MotionError, match="reference units and the step cache"):
        follow_cache([param], Arrangement(Windows(FRAMES)), scope)
