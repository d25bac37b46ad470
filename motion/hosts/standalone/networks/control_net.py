"""ControlNets on diffusers: a clip that the UNet is led by frame by frame, its depths, edges or poses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from torch import Tensor, nn

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.fields.varying import read_value
from motion.hosts.memory import is_out_of_memory
from motion.hosts.sounds import settle_curve
from motion.hosts.source import Source
from motion.hosts.standalone.networks.lora import split_weight
from motion.hosts.standalone.parts import LATENT_CHANNELS, State, filled
from motion.hosts.standalone.source import lengthened
from motion.settings.settings import Clip
from motion.video.structure import blur_structure
from motion.weights.files import open_weights
from motion.weights.kinds import detect, title
from motion.weights.library import short_hash
from motion.weights.paths import OR_FOLDER, check_file

REMEDY = "give a ControlNet made for the checkpoint's base"
MOST = 2
"""Bound of a strength."""
WHAT = "the strength of the ControlNet"
ROWS_AT_ONCE = 32
FIRST = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
"""The layer that reads the clip, by its original name and diffusers'."""
OTHERS = {
    "lllite_": "a ControlLLLite",
    "task_embedding": "a ControlNet Union",
    "adapter.": "a T2I-Adapter",
    "body.": "a T2I-Adapter",
    "difference": "a ControlNet of differences",
}
"""What is no plain ControlNet, by the beginning of a key only it has."""


@dataclass(frozen=True)
class ControlClip:
    """A ControlNet's file or diffusers folder, the clip that it is shown, and its strength, or the curve of that over
    frames."""

    file: Path
    source: Source
    strength: Value = 1.0

    @classmethod
    def parse(cls, text: str) -> ControlClip:
        """Of `FILE=CLIP` or `FILE=CLIP=strength`. Raises MotionError naming what is missing."""
        marks = [place for place, letter in enumerate(text) if letter == "="]
        mark = next((place for place in marks if Path(text[:place]).exists()), marks[0] if marks else len(text))
        file, (shown, strength) = Path(text[:mark]), split_weight(text[mark + 1 :])
        check_file(file, "ControlNet", OR_FOLDER, folders=True)
        if not text[mark + 1 :]:
            raise MotionError(f"the ControlNet {file} is shown nothing: give FILE=CLIP or FILE=CLIP=0.8")
        source = Source(shown)
        source.measure(1)
        value = read_value(strength, WHAT, 0, MOST)
        if read_curve(value).over_steps:
            raise MotionError(f"{WHAT} is {value!r:.80}: give a curve over frames alone, such as 0: 1, -1: 0.4")
        return cls(file, source, value)

    def __str__(self) -> str:
        digest = f" ({short_hash(self.file)})" if self.file.is_file() else ""
        strength = self.strength if isinstance(self.strength, str) else f"{self.strength:g}"
        return f"{self.file.stem}{digest}: {self.source}, {strength}"

    def hints(self, clip: Clip, frames: int) -> Tensor:
        """What the network is shown of each of the `frames` that are drawn, uint8 `[frames, 3, H, W]`."""
        shown = (blur_structure(frame, clip.structure_blur) for frame in self.source.frames(clip.frames, clip.size))
        return lengthened(torch.stack([torch.from_numpy(frame.copy()).movedim(-1, 0) for frame in shown]), frames)

    def strengths(self, clip: Clip, frames: int) -> Tensor:
        """Its strength in each of the `frames` that are drawn, float32 `[frames]`."""
        curve = read_curve(settle_curve(self.strength, clip.frames, clip.fps))
        return lengthened(torch.tensor(curve.at(clip.frames)), frames)


@dataclass(frozen=True)
class ControlNet:
    """A network with what it is shown of each frame, uint8 `[frames, 3, H, W]`."""

    model: ControlNetModel
    hints: Tensor
    strengths: Tensor
    """In each frame, `[frames]`."""

    @classmethod
    def of(cls, control: ControlClip, unet: UNet2DConditionModel, clip: Clip, frames: int) -> ControlNet:
        """For a clip of which so many `frames` are drawn by `unet`. Raises MotionError if it does not fit."""
        model = open_control_net(control.file, unet)
        nn.Module.to(model, unet.device, unet.dtype)  # diffusers' own `to` logs a warning
        return cls(model, control.hints(clip, frames), control.strengths(clip, frames))

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        frames: Sequence[int],
        conditioning: Mapping[str, Any],
        outermost: bool = False,
    ) -> list[Tensor]:
        """What is added to the UNet's skip connections and, last, to its middle in a call `x [rows, 4, h, w]`.

        If the `outermost` connection alone is computed with, all others are given a zero, and nothing is computed for
        them.
        """
        parts: list[list[Tensor]] = []
        for some in torch.split(torch.arange(len(x)), ROWS_AT_ONCE):
            numbers = [frames[row] for row in some.tolist()]
            hints = self.hints[numbers].to(x) / 255
            given = {name: _rows(value, some) for name, value in conditioning.items()}
            time = t[some] if t.ndim else t
            strengths = self.strengths[numbers].to(x)[:, None, None, None]
            if outermost:
                parts.append([self._first(x[some], hints) * strengths])
                continue
            down, middle = self.model(x[some], time, controlnet_cond=hints, return_dict=False, **given)
            parts.append([residual * strengths for residual in (*down, middle)])
        if outermost:
            zeros = [x.new_zeros(())] * len(self.model.controlnet_down_blocks)
            return [torch.cat([first for (first,) in parts]), *zeros]
        return [torch.cat(same) for same in zip(*parts, strict=True)]

    def _first(self, x: Tensor, hints: Tensor) -> Tensor:
        """The residual of the outermost skip connection, which is behind the network's first convolution."""
        residual: Tensor = self.model.controlnet_down_blocks[0](
            self.model.conv_in(x) + self.model.controlnet_cond_embedding(hints)
        )
        return residual


def added(nets: Sequence[ControlNet], *call: Any) -> dict[str, Any]:
    """The residuals of several networks together, as diffusers' UNet takes them."""
    if not nets:
        return {}
    *down, middle = (sum(same) for same in zip(*(net.residuals(*call) for net in nets), strict=True))
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def open_control_net(path: Path, unet: UNet2DConditionModel) -> ControlNetModel:
    """The ControlNet in a file, under the original names or diffusers', or in a diffusers folder: a copy of the inner
    half of `unet`. Raises MotionError naming what is wrong, or what the file is instead."""
    if path.is_dir():
        found = sorted(path.glob("diffusion_pytorch_model*.safetensors")) or sorted(path.glob("*.bin"))
        if not found:
            raise MotionError(f"{path} holds no weights of a ControlNet: {REMEDY}")
        path = found[0]
    state = open_weights(path).tensors
    plain = {key.removeprefix("control_model."): tensor for key, tensor in state.items()}
    for beginning, what in OTHERS.items():
        if any(key.startswith(beginning) for key in plain):
            raise MotionError(f"{path} is {what}, which this host does not read: {REMEDY}")
    first = next((key for key in FIRST if key in plain), None)
    if first is None:
        raise MotionError(f"{path} is {title(detect(state))}, and no ControlNet: {REMEDY}")
    if (channels := plain[first].shape[1]) != 3:
        raise MotionError(f"{path} takes clips of {channels} channels: {REMEDY}, that takes 3")
    try:
        return filled("ControlNet", lambda: ControlNetModel(**_config(unet)), lambda model: _converted(plain, model))
    except (MotionError, RuntimeError, KeyError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise MotionError(f"{path} does not fit this checkpoint: {REMEDY}") from error


def _config(unet: UNet2DConditionModel) -> dict[str, Any]:
    names = inspect.signature(ControlNetModel.__init__).parameters.keys() & unet.config.keys()
    return {**{name: unet.config[name] for name in names}, "in_channels": LATENT_CHANNELS}


def _converted(state: State, model: ControlNetModel) -> State:
    converted: dict[str, Tensor | None] = convert_controlnet_checkpoint(dict(state), model.config)
    return {name: tensor for name, tensor in converted.items() if tensor is not None}


def _rows(value: Any, some: Tensor) -> Any:
    if isinstance(value, Mapping):
        return {name: _rows(one, some) for name, one in value.items()}
    return value[some] if isinstance(value, Tensor) else value
