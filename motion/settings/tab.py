"""The WebUI tab's description of a clip: what it adds to the host's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.fields.table import Choice, Field, Flag, Image, Number, Several, check, setting, table
from motion.fields.varying import Varying, VaryingWeights, check_curves
from motion.fields.weighted import Weighted
from motion.settings.choices import MOST_FRAMES
from motion.settings.key_frames import KeyFrame, KeyImages
from motion.settings.layers import FurtherModule, FurtherModules
from motion.settings.settings import Movement, Steering
from motion.settings.source import SourceClip, StructureSettings

FORMATS: Mapping[str, str] = MappingProxyType(
    {"gif": "GIF", "webp": "WebP", "apng": "APNG", "mp4": "MP4", "webm": "WebM", "frames": "Frames"}
)
GALLERIES: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Up to 64",
        "all": "All",
        **{str(step): f"Every {step}th" for step in (4, 8, 16)},
        "none": "None of them",
    }
)
STARTS: Mapping[str, str] = MappingProxyType({"every": "Every frame", "first": "First frame"})

NO_MODULE = "None (zero-shot)"
"""What stands in a list of motion modules for none."""


@dataclass(frozen=True)
class Switch:
    """Whether a clip is made at all, and by which module."""

    enabled: bool = setting(Flag, False, "Enable", "make a clip instead of a picture", key="")
    module: str = setting(
        Field, "", "Motion module", "what makes your checkpoint move; files lie in models/motion", key="Motion module"
    )
    loras: tuple[Weighted, ...] = setting(
        VaryingWeights, (), "Motion LoRA", "camera moves and other learned motions, each with its strength", -10, 10,
        key="Motion LoRA", group="lora", detail='as text name:weight, name:"curve" ...',
    )  # fmt: skip
    adapter: str = setting(
        Field, "", "Domain adapter", "the image LoRA that belongs to some motion modules (v3)",
        key="Motion adapter", group="lora",
    )  # fmt: skip
    modules: tuple[FurtherModule, ...] = setting(
        FurtherModules, (), "Further motion modules", "that act beside the first one, each with its own effect",
        key="Motion further modules", group="layers",
        detail="their layers continue those of the first; the noise schedule and the windows are the first one's",
    )  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Which images the clip obeys."""

    key_frames: tuple[KeyFrame, ...] = setting(
        KeyImages, (), "Key frames", "pictures that the clip follows at some of its frames",
        key="Motion key frames", group="keys",
    )  # fmt: skip


@dataclass(frozen=True)
class Tab(StructureSettings, SourceClip, Steering, Keys, Movement, Switch):
    """What the WebUI's tab adds to the host's own settings. Every field is checked on construction."""

    formats: tuple[str, ...] = setting(
        Several, ("gif",), "Formats", "files to write; Frames: each frame as a picture of its own", FORMATS,
        key="Motion formats",
    )  # fmt: skip
    gallery: str = setting(
        Choice, "auto", "Frames in the gallery", "single frames that the page shows beside the clip", GALLERIES, key="",
        group="output", detail="of the page alone: the API's answer holds them all",
    )  # fmt: skip
    start: str = setting(
        Choice, "every", "Initial image", "every: all frames are drawn from it; first: it fades out after the first",
        STARTS, key="Motion initial image", group="img2img",
    )  # fmt: skip
    initial_weight: float | str = setting(
        Varying, 1.0, "Initial image weight", "how much of it each frame begins with, the rest is noise; or a curve",
        0, 1, 0.05, 1, key="Motion initial image weight", group="img2img",
        detail="0: 1, -1: 0 lets go of the image over the clip",
    )  # fmt: skip
    fade_power: float = setting(
        Number, 1.0, "Fade power", "p in 1 - i^p / s, the weight of the initial image in frame i", 0.1, 10, 0.1, 10,
        key="Motion fade power", group="img2img", needs=("start", "last_frame"),
    )  # fmt: skip
    fade_scale: float = setting(
        Number, 32.0, "Fade scale", "s in 1 - i^p / s, the weight of the initial image in frame i",
        1, MOST_FRAMES, 1, 128, key="Motion fade scale", group="img2img", needs=("start", "last_frame"),
    )  # fmt: skip
    mask_clip: str = setting(
        Field, "", "Mask clip", "path of a clip or a folder of masks, white where each frame is drawn anew",
        key="Motion mask clip", group="source",
        detail="lies where a source may; with Inpaint area at Only masked a source clip is needed",
    )  # fmt: skip
    mask_detector: str = setting(
        Field, "", "Masks by ADetailer", "detector of the extension ADetailer, such as face_yolov8n.pt; it finds masks",
        key="Motion mask detector", group="source", needs=("source",),
        detail="what it finds in each frame of the source clip is drawn anew, as by a mask clip",
    )  # fmt: skip
    regions: str = setting(
        Field, "", "Region masks", "of each part of a prompt that AND joins the path of its mask, with ; between them",
        key="Motion regions", group="guidance",
        detail="white where the part counts, black where not: a picture for all frames, a clip or a folder of masks; "
        "nothing between two ; is everywhere: left.png; ; right.webp. Masks lie where a source may",
    )  # fmt: skip
    last_frame: Any = setting(  # noqa: RUF009
        Image, None, "Last frame", "where the clip ends; the initial image then fades out after the first frame",
        key="Motion last frame", group="img2img",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self, TAB_FIELDS)
        check_curves(self, TAB_FIELDS, self.frames)
        self.check_keys()
        self.check_cross_frame()
        if read_curve(self.initial_weight).over_steps:
            raise MotionError(f"initial weight is {self.initial_weight}: frames begin once, give a curve over frames")

    @property
    def zero_shot(self) -> bool:
        """Whether the clip is made without a motion module."""
        return self.module.strip() == NO_MODULE

    @property
    def fades(self) -> bool:
        """Whether frames of img2img begin with more or less of the initial image."""
        constant = read_curve(self.initial_weight).constant
        return self.start == "first" or self.last_frame is not None or constant != 1


TAB_FIELDS = table(Tab)
"""The field table of the WebUI's tab: source of labels, defaults, ranges, tooltips, infotext, axes, API and docs."""
