"""The clip's description: one frozen, validated dataclass whose field table drives options, interface and infotext."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from motion.errors import MotionError
from motion.fields.table import (
    Choice,
    Field,
    Flag,
    Number,
    Pixels,
    Size,
    check,
    setting,
    table,
)

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M", "lcm": "LCM"}
)
"""Sampler by its option name, with the name the WebUI knows it by."""

RANDOM_SEED = -1
MOST_FRAMES = 10_000
"""Frames of the longest clip, twenty minutes at 8 a second."""

LOOPS: Mapping[str, str] = MappingProxyType({"none": "None", "closed": "Closed", "ping-pong": "Ping-pong"})
SEED_MODES: Mapping[str, str] = MappingProxyType({"clip": "Clip", "frame": "Frame"})
BETAS: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Auto",
        "linear": "Linear (AnimateDiff)",
        "scaled_linear": "Scaled linear (Stable Diffusion)",
        "sdxl": "Scaled linear (AnimateDiff SDXL)",
    }
)
CONTEXT_SCHEDULES: Mapping[str, str] = MappingProxyType(
    {"uniform": "Uniform", "static": "Static", "batched": "Batched", "composite": "Composite"}
)
CONTEXT_FUSES: Mapping[str, str] = MappingProxyType(
    {"flat": "Flat", "pyramid": "Pyramid", "overlap-linear": "Overlap-linear", "relative": "Relative"}
)
CONTEXT_ENGINES: Mapping[str, str] = MappingProxyType({"denoiser": "Denoiser", "attention": "Temporal attention"})
NOISES: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Auto",
        "independent": "Independent",
        "freenoise": "FreeNoise",
        "repeated": "Repeated",
        "constant": "Constant",
    }
)
TRAVELS: Mapping[str, str] = MappingProxyType({"linear": "Linear", "spherical": "Spherical"})
FREEINIT_FILTERS: Mapping[str, str] = MappingProxyType(
    {"butterworth": "Butterworth", "gaussian": "Gaussian", "ideal": "Ideal"}
)
SPACINGS: Mapping[str, str] = MappingProxyType(
    {"auto": "Auto", "leading": "Leading", "linspace": "Linspace", "trailing": "Trailing"}
)
FITS: Mapping[str, str] = MappingProxyType({"crop": "Crop", "pad": "Pad"})


@dataclass(frozen=True)
class Picture:
    """What a WebUI asks for by itself."""

    prompt: str = setting(Field, "", "Prompt", "what to draw; <lora:name:weight> adds a LoRA", key="Prompt")
    negative: str = setting(Field, "", "Negative prompt", "what to keep away from", key="Negative prompt")
    steps: int = setting(Number, 25, "Steps", "denoising steps", 1, 250, key="Steps")
    sampler: str = setting(
        Choice, "ddim", "Sampler", "denoising method: " + ", ".join(SAMPLERS), SAMPLERS, key="Sampler"
    )
    cfg: float = setting(
        Number, 8.0, "CFG scale", "how closely to follow the prompt; 1 = no guidance", 1, 100, key="CFG scale"
    )
    seed: int = setting(
        Number, RANDOM_SEED, "Seed", "start of the noise; -1 = random", RANDOM_SEED, 2**63 - 1, key="Seed"
    )
    size: Size = setting(Pixels, Size(512, 512), "Size", "pixels of a frame", 64, 4096, 8, key="Size")  # noqa: RUF009
    clip_skip: int = setting(
        Number, 1, "Clip skip", "SD1.5: use the text encoder's n-th last layer", 1, 12, key="Clip skip"
    )


@dataclass(frozen=True)
class Movement:
    """What makes a clip of a picture."""

    frames: int = setting(Number, 16, "Frames", "frames in the clip", 1, MOST_FRAMES, 1, 32, key="Motion frames")
    fps: float = setting(Number, 8.0, "FPS", "frames per second", 0.1, 100, 1, 30, key="Motion FPS")
    scale: float = setting(
        Number, 1.0, "Motion scale", "strength of the motion module; 0 = off", 0, 10, 0.05, 2, key="Motion scale"
    )
    loop: str = setting(
        Choice, "none", "Loop", "closed: the last frame leads into the first; ping-pong: there and back", LOOPS,
        key="Motion loop",
    )  # fmt: skip
    seed_mode: str = setting(
        Choice, "clip", "Seed mode", "clip: one stream of noise for all frames; frame: seed + 1, + 2 ... for each",
        SEED_MODES, key="Motion seed mode",
    )  # fmt: skip
    noise: str = setting(
        Choice, "auto", "Noise", "what frames begin with; auto: FreeNoise for clips in windows, else each its own; "
        "repeated: that of the first window again; constant: all the same", NOISES,
        key="Motion noise", group="advanced",
    )  # fmt: skip
    betas: str = setting(
        Choice, "auto", "Beta schedule", "the noise schedule; auto: the one the motion module was trained with", BETAS,
        key="Motion beta schedule", group="advanced",
    )  # fmt: skip
    context_length: int = setting(
        Number, 0, "Context length", "frames that move together; 0 = all if the module reaches so far, else as many "
        "as it was trained on", 0, MOST_FRAMES, 1, 64, key="Motion context length", group="advanced",
    )  # fmt: skip
    context_overlap: int = setting(
        Number, 4, "Context overlap", "frames that neighbouring windows share at least", 0, MOST_FRAMES - 1, 1, 32,
        key="Motion context overlap", group="advanced",
    )  # fmt: skip
    context_stride: int = setting(
        Number, 1, "Context stride", "2: windows of every second frame besides; 3: and of every fourth ...", 1, 8, 1,
        4, key="Motion context stride", group="advanced",
    )  # fmt: skip
    context_schedule: str = setting(
        Choice, "uniform", "Context schedule", "uniform: borders move in each step; static: they stay; batched: no "
        "overlap; composite: frames from all over the clip until it is settled what it shows, then uniform",
        CONTEXT_SCHEDULES, key="Motion context schedule", group="advanced",
    )  # fmt: skip
    context_fuse: str = setting(
        Choice, "pyramid", "Context fuse method", "what the frames of a window count where windows overlap",
        CONTEXT_FUSES, key="Motion context fuse method", group="advanced",
    )  # fmt: skip
    context_engine: str = setting(
        Choice, "denoiser", "Context engine", "denoiser: the memory of one window for any length; temporal attention: "
        "no frame is computed twice", CONTEXT_ENGINES, key="Motion context engine", group="advanced",
    )  # fmt: skip
    freeinit: int = setting(
        Number, 1, "FreeInit", "times to draw, each from what came before; 1 = off", 1, 5, 1, 5,
        key="Motion FreeInit", group="advanced",
    )  # fmt: skip
    freeinit_filter: str = setting(
        Choice, "butterworth", "FreeInit filter", "what of the drawn clip goes into its new noise", FREEINIT_FILTERS,
        key="Motion FreeInit filter", group="advanced",
    )  # fmt: skip
    steady_colours: float = setting(
        Number, 0.0, "Steady colours", "draw each frame's colours, their mean and spread, to the whole clip's; 1 = all "
        "the way, 0 = off; not for light that is to change", 0, 1, 0.05, 1,
        key="Motion steady colours", group="advanced",
    )  # fmt: skip
    travel: str = setting(
        Choice, "linear", "Prompt travel", "the way from one text to the next, where lines 'frame: text' give several",
        TRAVELS, key="Motion prompt travel", group="advanced",
    )  # fmt: skip
    adapter_scale: float = setting(
        Number, 1.0, "Adapter scale", "strength of the domain adapter; 0 = off", 0, 1, 0.05, 1,
        key="Motion adapter scale", group="lora",
    )  # fmt: skip
    trigger_words: bool = setting(
        Flag, False, "Trigger words", "add the words that the LoRA files name to the prompt, where it lacks them",
        key="Motion trigger words", group="lora",
    )  # fmt: skip


@dataclass(frozen=True)
class KeyFrames:
    """How strong a clip obeys its key frames, and when."""

    key_scale: float = setting(
        Number, 1.0, "Key frame scale", "strength of SparseCtrl", 0, 10, 0.05, 2, key="Motion key scale", group="keys"
    )
    key_start: float = setting(
        Number, 0.0, "Key frame start", "where SparseCtrl begins: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion key start", group="keys",
    )  # fmt: skip
    key_end: float = setting(
        Number, 1.0, "Key frame end", "where SparseCtrl ends: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion key end", group="keys",
    )  # fmt: skip
    on_keys: float = setting(
        Number, 1.0, "Scale on keys", "strength on frames with a key, times the scale", 0, 10, 0.05, 2,
        key="Motion scale on keys", group="keys",
    )  # fmt: skip
    off_keys: float = setting(
        Number, 1.0, "Scale off keys", "strength on frames without a key, times the scale", 0, 10, 0.05, 2,
        key="Motion scale off keys", group="keys",
    )  # fmt: skip
    key_fit: str = setting(
        Choice, "crop", "Key image fit", "crop: fill the frame and cut off what is over; pad: all of it, with bars",
        FITS, key="Motion key image fit", group="keys",
    )  # fmt: skip
    key_nearest: bool = setting(
        Flag, True, "Nearest key frame", "a window without a key frame is given the one that is nearest",
        key="Motion nearest key", group="keys",
    )  # fmt: skip
    colour_match: bool = setting(
        Flag, False, "Colour match", "key frames take mean and spread of the colours of the frames beside them; the "
        "published RGB encoder draws them lighter or darker", key="Motion colour match", group="keys",
    )  # fmt: skip

    def check_keys(self) -> None:
        """Raise MotionError if key frames end before they begin."""
        if self.key_start > self.key_end:
            raise MotionError(f"key start is {self.key_start:g}: give at most key end, {self.key_end:g}")


@dataclass(frozen=True)
class Clip(KeyFrames, Movement, Picture):
    """What to draw: everything about a clip but the model files. Every field is checked on construction.

    Raises MotionError naming the first value that is out of range.
    """

    zoom: int = setting(
        Number, 1, "Zoom", "draw each pixel of the finished frames n x n, for pixel art", 1, 16, key="Zoom"
    )
    spacing: str = setting(
        Choice, "auto", "Spacing", "where steps lie in the noise schedule; auto: trailing for euler and euler_a up to "
        "8 steps, else the sampler's own", SPACINGS, key="Spacing",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self, FIELDS)
        if self.sampler == "lcm" and self.spacing != "auto":
            raise MotionError(f"spacing is {self.spacing}: the LCM sampler picks its own steps, leave it at auto")
        if self.sampler == "lcm" and self.steps > LCM_STEPS:
            raise MotionError(f"steps is {self.steps}: the LCM sampler takes 1 to {LCM_STEPS} steps (4 to 8 are usual)")
        self.check_keys()

    def with_seed(self) -> Clip:
        """This clip with a seed: its own, or one drawn now if it is random."""
        return self if self.seed != RANDOM_SEED else replace(self, seed=secrets.randbelow(2**32))


LCM_STEPS = 100
"""Steps of the teacher's schedule that LCM sampling picks from (AnimateLCM's `original_inference_steps`)."""

FIELDS = table(Clip)
"""The field table of the standalone host."""
