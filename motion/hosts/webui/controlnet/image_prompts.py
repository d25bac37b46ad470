"""IP-Adapters on a clip in ControlNet's units: each frame has image tokens of its own, mixed between key frames.

sd-webui-controlnet (1.1.455) averages the tokens of all pictures that a unit has, and keeps keys and values of its
first call. The Forge family encodes the first of several pictures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui.controlnet.inputs import Clip, Shown
from motion.hosts.webui.controlnet.patchers import Put, put_otherwise
from motion.sampling.arrangement import Arrangement
from motion.sampling.rows import Rows
from motion.settings.prompts import mix_keys
from motion.video.read import open_clip

NAMES = ("ip-adapter", "ipadapter")
"""Parts of the names of an IP-Adapter's preprocessors."""
VALUES = "to_v"
"""What the names of its layers have in them that make values of the tokens."""
KIND = "IPAdapter"
"""sd-webui-controlnet's name of its networks."""


def takes_image_prompt(module: str) -> bool:
    """Whether the preprocessor of this name makes image tokens."""
    return any(name in module.casefold() for name in NAMES)


def shares(clip: Clip, keys: Sequence[int]) -> Tensor:
    """How much of the picture at each of ``keys`` each frame is given, ``[drawn, pictures]``; a row sums up to 1."""
    counted = torch.zeros(clip.drawn, len(keys))
    names = {key: str(number) for number, key in enumerate(keys)}
    for row, mix in zip(counted, mix_keys(names, clip.kept, clip.closed, clip.drawn), strict=True):
        row[int(mix.first)] += 1 - mix.weight
        row[int(mix.second)] += mix.weight
    return counted


@dataclass
class _Tokens:
    """Stands in for the `ImageEmbed` of sd-webui-controlnet's network and for the method that makes keys and values of
    it: those of the pictures and, last, of the negative prompt are made once, and mixed for each call's rows."""

    adapter: Any
    pictures: Tensor
    """Their tokens and the negative prompt's, ``[pictures + 1, tokens, c]``."""
    shares: Tensor
    arrangement: Arrangement
    strengths: Tensor | None = None
    """Of each frame; None: 1."""
    made: dict[str, Tensor] = field(default_factory=dict)

    def eval(self, cond_mark: Tensor) -> Tensor:
        """Of each row of the call in progress the shares, ``[rows, pictures + 1]``: the host passes on what it gets."""
        positive = cond_mark[:, 0, :, 0].to(self.shares)
        own = Rows(self.arrangement.frame_numbers(len(cond_mark))).of(self.shares)
        return torch.cat([own * positive, 1 - positive], 1)

    def project(self, key: str, rows: Tensor, device: torch.device) -> Tensor:
        """What the layer ``key`` makes of the tokens, ``[rows, tokens, channels]``; values times the strength of each
        frame, which what is found in them then counts for."""
        if key not in self.made:
            self.made[key] = self.adapter.ip_layers.to_kvs[key](self.pictures).to(device)
        made = self.made[key]
        projected = torch.einsum("rp,ptc->rtc", rows.to(made), made)
        if self.strengths is None or VALUES not in key:
            return projected
        return projected * _of_rows(self.strengths, len(rows), self.arrangement, projected)


def prompt_networks(
    params: Sequence[Any], shown: Sequence[Shown | None], arrangement: Arrangement, undo: ExitStack
) -> None:
    """Let sd-webui-controlnet's IP-Adapters give each frame its own mix of their pictures, until ``undo`` is closed;
    ``params`` are those of its units. Raises MotionError for a network of another kind."""
    for param, own in zip(params, shown, strict=True):
        if own is None or own.mixed is None:
            continue
        if getattr(param.control_model_type, "name", "") != KIND:
            raise MotionError("a ControlNet unit has the preprocessor of an IP-Adapter and no IP-Adapter: choose one")
        network, found = param.control_model, param.hint_cond
        found = found if isinstance(found, (list, tuple)) else [found]
        made = [network.ipadapter.get_image_emb(each) for each in found]
        pictures = torch.cat([*(each.cond_emb for each in made), made[-1].uncond_emb])
        tokens = _Tokens(network.ipadapter, pictures, own.mixed.to(pictures), arrangement, _tensor(own.strengths))
        for name, value in (("image_emb", tokens), ("call_ip", tokens.project)):
            undo.callback(patching.item(vars(network), name, value))


@dataclass
class _Patch:
    """Stands in for one of the Forge family's patches of cross-attention: the ``place``-th of its adapters is given the
    tokens of the frames in the call."""

    patch: Any
    place: int
    shares: Tensor
    arrangement: Arrangement
    strengths: Tensor | None

    def __call__(self, n: Tensor, context: Tensor, value: Tensor, options: Any) -> Any:
        rows = len(n) // len(options["cond_or_uncond"])
        own = Rows(self.arrangement.frame_numbers(len(n))[:rows]).of(self.shares)
        with ExitStack() as undo:
            for name, made in (("conds", self._mixed), ("unconds", self._repeated), ("unfold_batch", _yes)):
                values = getattr(self.patch, name)
                undo.callback(values.__setitem__, self.place, values[self.place])
                values[self.place] = made(values[self.place], own)
            whole = self.patch(n, context, value, options)
            if self.strengths is None:
                return whole
            # Not all of the family take a weight for each row: what it comes to is found without it.
            weights = self.patch.weights
            undo.callback(weights.__setitem__, self.place, weights[self.place])
            weights[self.place] = [0.0] * len(weights[self.place]) if isinstance(weights[self.place], list) else 0.0
            without = self.patch(n, context, value, options)
            return torch.lerp(without, whole, _of_rows(self.strengths, len(n), self.arrangement, whole))

    def __getattr__(self, name: str) -> Any:
        """What the next adapter, of another unit, is put among."""
        return getattr(self.patch, name)

    def _mixed(self, tokens: Tensor, own: Tensor) -> Tensor:
        return torch.einsum("rp,ptc->rtc", own.to(tokens), tokens)

    def _repeated(self, tokens: Tensor, own: Tensor) -> Tensor:
        return tokens[:1].expand(len(own), *tokens.shape[1:])


def _tensor(strengths: Sequence[float] | None) -> Tensor | None:
    return None if strengths is None else torch.tensor(strengths)


def _of_rows(strengths: Tensor, rows: int, arrangement: Arrangement, like: Tensor) -> Tensor:
    """The strength of the frame in each row of a call, ``[rows, 1, 1]``."""
    return Rows(arrangement.frame_numbers(rows)).of(strengths.to(like))[:, None, None]


def _yes(*_: Any) -> bool:
    return True


def prompt_patchers(script: Any, shown: Sequence[Shown | None], arrangement: Arrangement, undo: ExitStack) -> None:
    """The same for the Forge family's own units.

    Raises MotionError for a unit that makes something else of its picture than its family's encoder of images does.
    """
    ways: dict[int, Callable[[Any, Put], Put]] = {}
    for params, own in zip(script.current_params.values(), shown, strict=True):
        if own is None or own.mixed is None:
            continue
        cond = params.control_cond
        if not isinstance(cond, Mapping) or cond.get("clip_vision") is None or "insightface" in cond:
            raise MotionError("an IP-Adapter unit of this WebUI takes one picture for a clip: give it no folder")
        ways[id(params)] = _way(own, arrangement)
    put_otherwise(script, ways, undo)


def _way(own: Shown, arrangement: Arrangement) -> Callable[[Any, Put], Put]:
    """The way in which an IP-Adapter is put into the UNet with all of its pictures."""
    assert own.mixed is not None
    pictures, mixed = _read(own), own.mixed

    def way(model: Any, put: Put) -> Put:
        def prompted(process: Any, cond: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            result = put(process, {**cond, "image": pictures}, *args, **kwargs)
            patches = _patches(process)
            for key, patch in patches.items():
                if hasattr(patch, "conds"):
                    place, of_frames = len(patch.conds) - 1, mixed.to(patch.conds[-1])
                    patches[key] = _Patch(patch, place, of_frames, arrangement, _tensor(own.strengths))
            return result

        return prompted

    return way


def _patches(process: Any) -> dict[Any, Any]:
    """Of the cross-attention of the pass's own UNet, by layer."""
    options = process.sd_model.forge_objects.unet.model_options["transformer_options"]
    found: dict[Any, Any] = options["patches_replace"]["attn2"]
    return found


def _read(own: Shown) -> Tensor:
    """The pictures, float32 ``[n, h, w, 3]`` from 0 to 1."""
    return torch.from_numpy(np.stack(list(open_clip(own.folder).frames()))).float() / 255
