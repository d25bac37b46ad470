"""The clip's description: one frozen, validated dataclass whose field table drives options, interface and infotext."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from motion.errors import MotionError
from motion.fields.numbers import Numbers
from motion.fields.table import Choice, Field, Flag, Number, Pixels, Size, check, setting, table
from motion.fields.varying import Varying, check_curves
from motion.fields.weighted import Weighted, WeightedChoices
from motion.settings.choices import (
    BETAS,
    FREEINIT_FILTERS,
    LOOPS,
    MODULE_FAMILIES,
    MOST_FRAMES,
    NOISES,
    SAMPLERS,
    SEED_MODES,
    SPACINGS,
    STEP_NOISES,
    TRAVELS,
)
from motion.settings.cross_frame import CrossFrame
from motion.settings.guidance import Guidance
from motion.settings.hires import HiresSettings
from motion.settings.key_frames import KeyFrames
from motion.settings.layers import LayerSettings
from motion.settings.source import SourceSettings, StructureSettings
from motion.settings.step_cache import StepCacheSettings
from motion.settings.windows import WindowSettings
from motion.techniques.ddim_inversion import INVERTED, InversionSettings
from motion.techniques.layered_noise import LayeredNoiseSettings
from motion.techniques.text2video_zero import ZeroShotSettings

RANDOM_SEED = -1


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
class FrameSettings(StepCacheSettings, LayerSettings, InversionSettings, LayeredNoiseSettings):
    """How many frames there are, and what they begin with."""

    frames: int = setting(
        Number, 16, "Frames", "pictures in the clip: 16 at 8 FPS last 2 s", 1, MOST_FRAMES, 1, 32,
        key="Motion frames",
    )  # fmt: skip
    fps: float = setting(Number, 8.0, "FPS", "pictures shown in a second", 0.1, 100, 1, 30, key="Motion FPS")
    scale: float | str = setting(
        Varying, 1.0, "Motion scale", "how strongly it moves; 1 = as trained, 0 = not; or a curve", 0, 10, 0.05, 2,
        key="Motion scale", group="motion", detail="what the motion module adds to each frame is multiplied by it",
    )  # fmt: skip
    loop: str = setting(
        Choice, "none", "Loop", "closed: without a seam; ping-pong: there and back", LOOPS,
        key="Motion loop", group="motion",
    )  # fmt: skip
    seed_mode: str = setting(
        Choice, "clip", "Seed mode", "clip: one seed; frame: seed + 1, + 2 ... by frame",
        SEED_MODES, key="Motion seed mode", group="motion",
    )  # fmt: skip
    noise: str = setting(
        Choice, "auto", "Noise", "what frames are drawn from; auto suits most", {**NOISES, INVERTED: "Inverted"},
        key="Motion noise", group="motion",
        detail="auto: FreeNoise for clips in windows, else each frame its own; repeated: the first window's again; "
        "constant: the same for all frames; mixed and progressive: a part of it is shared (PYoCo); empty: none; "
        "inverted: the source clip's own, found by DDIM inversion",
    )  # fmt: skip
    noise_layers: tuple[Weighted, ...] = setting(
        WeightedChoices, (), "Noise layers", "further noise, each kind with its weight: constant:0.5, freenoise:1",
        0, 10, {name: label for name, label in NOISES.items() if name != "auto"},
        key="Motion noise layers", group="motion",
        detail="the sum is brought back to the strength of one; layers are drawn from seeds of their own",
    )  # fmt: skip
    seeds: tuple[int, ...] = setting(
        Numbers, (), "Seeds", "the seed of each frame, with commas between them; behind the last it counts on",
        0, 2**63 - 1, True, key="Motion seeds", group="motion", detail="nothing: as the seed mode says",
    )  # fmt: skip
    step_noise: str = setting(
        Choice, "own", "Noise in steps", "what ancestral samplers add: each frame its own, or all the same",
        STEP_NOISES, key="Motion step noise", group="motion",
    )  # fmt: skip
    betas: str = setting(
        Choice, "auto", "Beta schedule", "noise schedule; auto: the motion module's own", BETAS,
        key="Motion beta schedule", group="motion",
    )  # fmt: skip

    @property
    def has_seeds(self) -> bool:
        """Whether each frame has a seed of its own."""
        return self.seed_mode == "frame" or bool(self.seeds)

    def frame_seeds(self, first: int, frames: int) -> list[int]:
        """The seed of each frame: those that are listed, or one after the other from the ``first`` on."""
        listed = self.seeds[:frames] or (first,)
        return [*listed, *range(listed[-1] + 1, listed[-1] + 1 + frames - len(listed))]


@dataclass(frozen=True)
class Movement(WindowSettings, FrameSettings):
    """What makes a clip of a picture."""

    freeinit: int = setting(
        Number, 1, "FreeInit", "times to draw, each steadier; 1 = once", 1, 5, 1, 5,
        key="Motion FreeInit", group="motion",
    )  # fmt: skip
    freeinit_noise: str = setting(
        Choice, "independent", "FreeInit noise", "what the fast parts of later rounds are drawn from",
        {name: label for name, label in NOISES.items() if name != "empty"},
        key="Motion FreeInit noise", group="motion", needs=("freeinit",),
        detail="independent: fresh for each frame; auto: as the first round's in windows",
    )  # fmt: skip
    freeinit_filter: str = setting(
        Choice, "butterworth", "FreeInit filter", "what each round keeps of the one before", FREEINIT_FILTERS,
        key="Motion FreeInit filter", group="motion", needs=("freeinit",),
    )  # fmt: skip
    steady_colours: float = setting(
        Number, 0.0, "Steady colours", "evens out brightness and colours over the clip; 0 = off, 1 = fully",
        0, 1, 0.05, 1, key="Motion steady colours", group="colours",
        detail="each frame's colours, their mean and spread, are drawn to the whole clip's; not for light that is to "
        "change",
    )  # fmt: skip
    travel: str = setting(
        Choice, "linear", "Prompt travel", "how prompts of lines such as '0: spring' blend", TRAVELS,
        key="Motion prompt travel", group="motion",
    )  # fmt: skip
    adapter_scale: float | str = setting(
        Varying, 1.0, "Adapter scale", "strength of the domain adapter; 0 = off; or a curve", 0, 1, 0.05, 1,
        key="Motion adapter scale", group="lora", needs=("adapter",),
    )  # fmt: skip
    trigger_words: bool = setting(
        Flag, False, "Trigger words", "add the words that the LoRA files ask for to the prompt",
        key="Motion trigger words", group="lora", needs=("loras", "adapter"),
    )  # fmt: skip
    family: str = setting(
        Choice, "auto", "Module family", "what the module was made from; auto: as its file says", MODULE_FAMILIES,
        key="Motion module family", group="motion",
        detail="v1 and v3 have the same position table, in lengths of 24 and 32: choose v1 for one that was made "
        "longer, v3 for one that was made shorter",
    )  # fmt: skip


@dataclass(frozen=True)
class Steering(ZeroShotSettings, CrossFrame, Guidance, KeyFrames):
    """What leads a clip besides its prompt."""

    @property
    def pictures_only(self) -> bool:
        """Whether key frames are held as pictures and shown to no SparseCtrl encoder."""
        return self.key_scale == 0 and self.hold_keys != "off"


@dataclass(frozen=True)
class Clip(HiresSettings, StructureSettings, SourceSettings, Steering, Movement, Picture):
    """What to draw: everything about a clip but the model files. Every field is checked on construction.

    Raises MotionError naming the first value that is out of range.
    """

    zero_shot: bool = setting(
        Flag, False, "Zero-shot", "move the picture without a motion module (Text2Video-Zero)",
        key="Motion zero-shot", group="zero_shot",
    )  # fmt: skip
    zoom: int = setting(
        Number, 1, "Zoom", "draw each pixel of the finished frames n x n, for pixel art", 1, 16, key="Zoom"
    )
    spacing: str = setting(
        Choice, "auto", "Spacing", "where steps lie in the noise schedule; auto: trailing for euler and euler_a up to "
        "8 steps, else the sampler's own", SPACINGS, key="Spacing",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self, FIELDS)
        check_curves(self, FIELDS, self.frames)
        if self.sampler == "lcm" and self.spacing != "auto":
            raise MotionError(f"spacing is {self.spacing}: the LCM sampler picks its own steps, leave it at auto")
        if self.sampler == "lcm" and self.steps > LCM_STEPS:
            raise MotionError(f"steps is {self.steps}: the LCM sampler takes 1 to {LCM_STEPS} steps (4 to 8 are usual)")
        self.check_keys()
        self.check_cross_frame()

    @property
    def finished_size(self) -> Size:
        """Of the frames that are drawn last."""
        return self.enlarged(self.size)

    def passes(self) -> list[Clip]:
        """This clip and, if there is a second pass, what that one draws: of the first pass, and so without a beginning
        of its own."""
        if self.hires == 1:
            return [self]
        looks, of_first = self.cross_frame_mode(self.zero_shot), replace(self, freeinit=1, zero_shot=False)
        second = replace(of_first, size=self.finished_size, strength=self.hires_strength, hires=1.0, cross_frame=looks)
        return [self, second]

    def with_seed(self) -> Clip:
        """This clip with a seed: its own, or one drawn now if it is random."""
        return self if self.seed != RANDOM_SEED else replace(self, seed=secrets.randbelow(2**32))


LCM_STEPS = 100
"""Steps of the teacher's schedule that LCM sampling picks from (AnimateLCM's `original_inference_steps`)."""

FIELDS = table(Clip)
"""The field table of the standalone host."""
