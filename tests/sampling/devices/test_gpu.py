"""Scopes on the UNet of a GPU that is not there, as in a WebUI: what CUDA would refuse, and what is sent there."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion.models import sites
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import Ahead, _Handed
from motion.sampling.effect import MotionEffect
from motion.sampling.windows import Windows
from motion.weights.formats.lora import Lora
from sparsectrl import Influence
from tests.support.simulated_gpu import SimulatedGpu, simulated_gpu
from tests.support.small import batch, far, keyed, random_encoder, random_model, random_pair

FRAMES, STEPS = 4, 4
pytestmark = pytest.mark.usefixtures("inference")


@contextmanager
def everything(unet: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """All that a WebUI's clip may attach."""
    frames, model, encoder = arrangement.frames, random_model(), random_encoder()
    layers = sites.attention_layers(unet)
    pairs = {name: random_pair(layer.out_features, layer.in_features) for name, layer in layers.items()}
    effect = MotionEffect("0: 1, 3: 0.5", "0: 1, 2: 1.2", mask=torch.rand(frames, 16, 16), frames=frames)
    condition, influence = keyed(0, clip=frames, size=(8, 8)), Influence(start=0.0, end=0.9, frames=frames)
    with ExitStack() as scope:
        scope.enter_context(motion.attach(unet, model, frames, 1.0, arrangement, effect))
        loras = [(Lora("adapter", "image", pairs, {}), "0: 0.5, 3: 1")]
        scope.enter_context(motion.lora.attach(unet, model, loras, frames, arrangement))
        scope.enter_context(motion.step_cache.attach(unet, arrangement, 2))
        scope.enter_context(
            sparsectrl.attach(unet, encoder, condition, frames, influence=influence, arrangement=arrangement)
        )
        yield


def steps(unet: nn.Module, arrangement: Arrangement, gpu: SimulatedGpu, device: str) -> tuple[list[Tensor], list[int]]:
    """What is predicted in each step, and how many events there were when it began."""
    found, marks = [], []
    x, _, context = (part.to(device) for part in batch(arrangement.frames, size=(8, 8)))
    t = torch.full((len(x),), 900, device=device)
    for step in range(STEPS):
        marks.append(len(gpu.events))
        arrangement.step_begins(step, STEPS + 1)
        predicted = unet(x, t, context)
        found.append(predicted if isinstance(predicted, Tensor) else predicted.sample)
    return found, marks


@pytest.mark.parametrize("engine", [None, "denoiser", "attention"])
def test_a_webui_sends_nothing_more_for_our_sake(unet: nn.Module, engine: str | None) -> None:
    """However many windows there are: what they count by goes there in one piece in the first step. A start and an end
    of SparseCtrl ask once a step when it is."""
    windows = Windows(FRAMES) if engine is None else Windows(FRAMES, 3, 1, engine=engine)
    with everything(unet, arrangement := Arrangement(windows)):
        wanted, _ = steps(unet, arrangement, SimulatedGpu(), "cpu")
    torch.manual_seed(0)
    with simulated_gpu() as gpu:
        on_gpu, arrangement = copy.deepcopy(unet).to("cuda"), Arrangement(windows)
        with everything(on_gpu, arrangement):
            found, marks = steps(on_gpu, arrangement, gpu, "cuda")
        found = [part.cpu() for part in found]
    assert all(far(part, want) < 1e-4 for part, want in zip(found, wanted, strict=True))
    for mark, end in pairwise([*marks[1:], len(gpu.events) - STEPS]):
        of_step = Counter(event.kind for event in gpu.events[mark:end])
        assert of_step["wait"] <= 1 and not of_step["to host"] and not of_step["to device"], gpu.events[mark:end]


def test_numbers_are_handed_over_once_with_those_that_are_foreseen() -> None:
    """Of them what has room; the newest are kept, and whatever is asked for is there."""
    handed = _Handed(6)
    with simulated_gpu() as gpu:
        device = torch.device("cuda", 0)

        def over(*values: float, ahead: Ahead = tuple) -> int:
            mark, found = len(gpu.events), handed.over(values, device, torch.float32, ahead)
            assert found.device == device and tuple(found.cpu().tolist()) == values
            return gpu.since(mark)["to device"]

        assert over(1, 2, ahead=lambda: [(3, 4), (5, 6, 7), (1, 2)]) == 1
        assert over(3, 4, ahead=lambda: 1 / 0) == 0  # type: ignore[arg-type, return-value]
        assert over(5, 6, 7) == 1 and over(3, 4) == 0
        assert over(1, 2) == 1 and handed.count <= 6
        assert over(*range(9)) == 1 and over(*range(9)) == 0


def test_mixing_is_refused() -> None:
    with simulated_gpu():
        x, layer = torch.ones(2, 4, device="cuda"), nn.Linear(4, 4)
        with pytest.raises(RuntimeError, match="one device"):
            layer(x)
        with pytest.raises(RuntimeError, match="one dtype"):
            layer.to("cuda")(x.bfloat16())
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()


def test_a_step_of_training_stays_on_the_device(unet: nn.Module) -> None:
    """Layers in float32 in a frozen UNet of half precision: gradients reach them, and they learn."""
    x, t, context = batch(FRAMES, size=(8, 8))
    with simulated_gpu() as gpu, torch.enable_grad():
        on_gpu = copy.deepcopy(unet).to("cuda", torch.bfloat16)
        model = random_model().to("cuda").requires_grad_(True)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        inputs = x.to("cuda", torch.bfloat16), t.to("cuda"), context.to("cuda", torch.bfloat16)
        before, mark = next(model.parameters()).detach().clone(), len(gpu.events)
        with motion.attach(on_gpu, model, FRAMES):
            on_gpu(*inputs).sample.float().square().mean().backward()
        optimizer.step()
        assert {weight.grad.device.type for weight in model.parameters()} == {"cuda"}
        assert not gpu.events[mark:]
        assert bool((next(model.parameters()) != before).any())
