"""Motion module, motion LoRA, domain adapter, SparseCtrl and windows at once on one small UNet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion.models import sites
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.weights.formats.lora import Lora
from tests.support import small
from tests.support.small import far, keyed, random_encoder, random_model, random_pair, run
from tests.support.trace import everything

FRAMES, LENGTH = 6, 4
PROJECTION = "temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q"
ALL = {"motion": 1.0, "lora": 0.8, "adapter": 0.7, "control": 1.0}


class Together:
    """All there is to attach, with random weights, on a host."""

    def __init__(self, host: nn.Module, engine: str) -> None:
        self.host, self.engine = host, engine
        self.model, self.encoder = random_model(positions=LENGTH), random_encoder()
        widths = {f"{name}.{PROJECTION}": layer.proj_in.in_features for name, layer in self.model.slots.items()}
        self.lora = Lora("pan", "motion", {name: random_pair(width, width) for name, width in widths.items()}, {})
        sizes = {name: layer.weight.shape for name, layer in sites.attention_layers(host).items()}
        self.adapter = Lora("look", "image", {name: random_pair(*size) for name, size in sizes.items()}, {})  # type: ignore[arg-type, misc]
        self.condition, self.inputs = keyed(0, clip=FRAMES), small.batch(FRAMES, 2)

    def attached(self, **strengths: float) -> ExitStack:
        """The scope of all of it, each with its strength; what is not named is not attached."""
        cut, stack = Arrangement(Windows(FRAMES, LENGTH, 1, engine=self.engine)), ExitStack()
        loras = [(found, strengths[name]) for name, found in self.loras.items() if name in strengths]
        if "motion" in strengths:
            stack.enter_context(motion.attach(self.host, self.model, FRAMES, strengths["motion"], cut))
        stack.enter_context(motion.lora.attach(self.host, self.model, loras))
        if "control" in strengths:
            scale = strengths["control"]
            stack.enter_context(
                sparsectrl.attach(self.host, self.encoder, self.condition, FRAMES, scale, arrangement=cut)
            )
        return stack

    @property
    def loras(self) -> dict[str, Lora]:
        return {"lora": self.lora, "adapter": self.adapter}

    def run(self) -> Tensor:
        return run(self.host, self.inputs)

    def drawn(self, **strengths: float) -> Tensor:
        with self.attached(**strengths):
            return self.run()


@pytest.fixture(params=["denoiser", "attention"])
def together(request: pytest.FixtureRequest, host: nn.Module) -> Iterator[Together]:
    with torch.no_grad():
        yield Together(host, request.param)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left(together: Together, error: type[BaseException] | None) -> None:
    parts = together.host, together.model, together.encoder
    plain, before = together.run(), [everything(part) for part in parts]
    with pytest.raises(BaseException) if error else ExitStack(), together.attached(**ALL):
        assert not torch.allclose(together.run(), plain, atol=1e-2)
        if error is not None:
            raise error
    assert [everything(part) for part in parts] == before
    assert torch.equal(together.run(), plain)


def test_each_of_them_acts(together: Together) -> None:
    whole = together.drawn(**ALL)
    assert torch.equal(together.drawn(**ALL), whole)
    for name in ALL:
        rest = {other: strength for other, strength in ALL.items() if other != name}
        if name == "motion":
            rest = {**ALL, "motion": 0.0}
        assert far(together.drawn(**rest), whole) > 1e-3, name


def test_of_strength_0_each_is_as_if_it_were_not_there(together: Together) -> None:
    for name in ("lora", "adapter", "control"):
        rest = {other: strength for other, strength in ALL.items() if other != name}
        assert torch.equal(together.drawn(**rest, **{name: 0.0}), together.drawn(**rest)), name
    nothing = together.drawn(**dict.fromkeys(ALL, 0.0))
    if together.engine == "attention":
        assert torch.equal(nothing, together.run())
    else:  # the UNet takes other frames together, and where windows overlap predictions are averaged
        assert far(nothing, together.run()) <= 1e-5


def test_a_lora_put_on_while_the_layers_follow_the_data(together: Together) -> None:
    """In a UNet of another dtype the layers run as copies, which must be those of the LoRA and then of none again."""
    together.model.double()
    with together.attached(motion=1.0, control=1.0):
        plain = together.run()
        with motion.lora.attach(together.host, together.model, [(together.lora, 0.8)]):
            with_lora = together.run()
        assert torch.equal(together.run(), plain)
    assert torch.equal(together.drawn(motion=1.0, control=1.0, lora=0.8), with_lora)
    assert not torch.allclose(with_lora, plain, atol=1e-3)
