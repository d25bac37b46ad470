"""IP-Adapter on a UNet: `load` reads one, `attach` is the scope in which frames are drawn after pictures.

Decoupled cross-attention (Ye et al. 2023, "IP-Adapter", arXiv:2308.06721, equation 5): the queries that look for the
text look for image tokens, too, with keys and values of their own, and both answers add up. The tokens lie behind the
text's on their way through each spatial transformer, so they stay with their frames whatever takes some frames at a
time, and neither ControlNets nor SparseCtrl see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.models import sites
from motion.models.ip_adapter.model import IPAdapter
from motion.models.ip_adapter.projection import attend
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement
from motion.sampling.frame_values import FrameValues, number_of
from motion.sampling.lora_products import Strength, strength_of
from motion.sampling.rows import OPTIONS, Rows
from motion.sampling.windows import Windows
from motion.weights.formats.ip_adapter import load

__all__ = ["IPAdapter", "attach", "attach_tokens", "load"]

TokensOf = Callable[[int], Tensor]
"""Image tokens of each row of the call in progress, which has so many rows."""


@contextmanager
def attach(
    unet: nn.Module,
    adapter: IPAdapter,
    embeddings: Tensor,
    scale: Value = 1.0,
    arrangement: Arrangement | None = None,
    frames: int = 16,
) -> Iterator[None]:
    """Within the scope ``unet`` draws each row of its batch after a picture.

    ``embeddings``: what the adapter's image encoder made of the pictures, one for each row, as `IPAdapter.tokens` takes
    them; rows of the negative prompt are given zeros (ip-adapter_sd15 and sdxl) or those of a black picture after
    normalisation, pixels of 0 (plus and full-face). ``scale`` 0 is bit-equal to no adapter; a curve over ``frames``,
    those of the finished clip, is the scale of each frame. Where a clip is cut into windows, ``arrangement`` is that of
    the `motion.attach` beside it, and the rows are those of whole clips, ``(groups frames)``. Goes with
    `motion.attach`, in either order, with LoRAs, SparseCtrl and more adapters. On exit the UNet is exactly as it was
    found.

    Raises MotionError for embeddings of another shape, an adapter for another base, a UNet of unknown layout, and,
    before anything is computed, for a batch of another size or cross-attention that somebody else has replaced, and for
    curves with keys that are not in the clip.
    """
    with torch.no_grad():
        tokens = adapter.tokens(embeddings)
    placed = arrangement or Arrangement(Windows(frames))
    with attach_tokens(unet, adapter, _RowsOfCall(tokens, arrangement), placed, frames, scale):
        yield


@contextmanager
def attach_tokens(
    unet: nn.Module,
    adapter: IPAdapter,
    tokens_of: TokensOf,
    arrangement: Arrangement,
    frames: int,
    scale: Value = 1.0,
) -> Iterator[None]:
    """`attach` for whoever knows which image tokens the rows of a call have."""
    scale = number_of(scale)
    values = FrameValues(arrangement, frames, [scale])
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        attentions = sites.cross_attentions(found)
        _check_fit(adapter, attentions)
        if scale != 0:
            call, strength = _Call(tokens_of), strength_of(scale, values.of_rows)
            undo.callback(patching.before(unet, call.begin, with_kwargs=True))
            if isinstance(scale, str):
                undo.callback(values.follow(unet, rows=True))
            for transformer in found.transformers:
                undo.callback(patching.before(transformer, call.append, with_kwargs=True))
            for attention, layer in zip(attentions, adapter.layers, strict=True):
                hooks = _Attention(call, layer, int(attention.heads), strength)  # type: ignore[arg-type]
                # The adapter that came last has its tokens last.
                undo.callback(patching.before(attention, hooks.split, with_kwargs=True, first=True))
                undo.callback(patching.after(attention.get_submodule("to_q"), hooks.keep))
                undo.callback(patching.before(attention.get_submodule("to_out.0"), hooks.add))
        yield


class _RowsOfCall:
    """`TokensOf` the rows of whole clips."""

    def __init__(self, tokens: Tensor, arrangement: Arrangement | None) -> None:
        self.tokens = tokens
        self.arrangement = arrangement

    def __call__(self, batch: int) -> Tensor:
        if self.arrangement is None:
            expected, numbers = batch, list(range(batch))
        else:
            together, frames = self.arrangement.together, self.arrangement.frames
            groups = batch // len(together)
            expected, numbers = groups * frames, [group * frames + at for group in range(groups) for at in together]
        if expected != len(self.tokens):
            raise MotionError(
                f"there are embeddings for {len(self.tokens)} rows, and the UNet is called with {expected}: give each "
                "row of the batch its own"
            )
        return Rows(numbers).of(self.tokens)


class _Call:
    """The hooks on the UNet and its spatial transformers: the image tokens of a call go in behind the text's."""

    def __init__(self, tokens_of: TokensOf) -> None:
        self.tokens_of = tokens_of
        self.tokens = torch.empty(0)

    def begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get(OPTIONS, {}).get("patches_replace", {}).get("attn2"):
            raise MotionError(
                "another extension replaces the UNet's cross-attention (a regional prompter, or its own IP-Adapter): "
                "disable it, or take the IP-Adapter out"
            )
        self.tokens = self.tokens_of(unet_call.batch(args, kwargs))

    def append(self, transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = next((name for name in ("encoder_hidden_states", "context") if kwargs.get(name) is not None), None)
        text = args[1] if name is None else kwargs[name]
        both = torch.cat([text, self.tokens.to(text)], dim=1)
        return (args, {**kwargs, name: both}) if name else ((args[0], both, *args[2:]), kwargs)


class _Attention:
    """The hooks on one cross-attention, between its queries and what it puts out."""

    def __init__(self, call: _Call, layer: nn.ModuleDict, heads: int, strength: Strength) -> None:
        self.call, self.layer = call, layer
        self.heads, self.strength = heads, strength
        self.image: Tensor | None = None
        self.queries: Tensor | None = None

    def split(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The text's tokens alone go on."""
        name = "encoder_hidden_states" if "encoder_hidden_states" in kwargs else "context"
        text = kwargs[name].shape[1] - self.call.tokens.shape[1]
        self.image = kwargs[name][:, text:]
        return args, {**kwargs, name: kwargs[name][:, :text]}

    def keep(self, projection: nn.Module, args: Any, output: Tensor) -> None:
        self.queries = output

    def add(self, projection: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the queries find in the image joins what they found in the text."""
        assert self.queries is not None and self.image is not None
        (queries, image), (self.queries, self.image) = (self.queries, self.image), (None, None)
        weights = (self.layer.get_parameter(f"{name}.weight") for name in ("to_k_ip", "to_v_ip"))
        keys, values = (F.linear(image, weight.to(image)) for weight in weights)
        found = attend(queries, keys.to(queries), values.to(queries), self.heads)
        return args[0] + self.strength(found) * found.to(args[0]), *args[1:]


def _check_fit(adapter: IPAdapter, attentions: list[nn.Module]) -> None:
    """Raise MotionError unless the adapter has a layer for each cross-attention, of its shape."""
    theirs = [tuple(attention.get_submodule("to_k").weight.shape) for attention in attentions]  # type: ignore[arg-type]
    ours = [tuple(layer["to_k_ip"].weight.shape) for layer in adapter.layers]  # type: ignore[arg-type]
    if ours != theirs:
        raise MotionError(
            f"this IP-Adapter is made for {len(ours)} layers with text of {ours[0][1]} channels, and the checkpoint "
            f"has {len(theirs)}{f' of {theirs[0][1]}' if theirs else ''}: choose an IP-Adapter for its base"
        )
