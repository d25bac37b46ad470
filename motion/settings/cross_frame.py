"""Settings of cross-frame attention: which frames the UNet's self-attention looks at, where and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from motion.errors import MotionError
from motion.fields.table import Choice, Flag, Number, Several, setting
from motion.fields.varying import Varying

MODES: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Auto",
        "none": "None",
        "first": "First frame",
        "sparse-causal": "First and previous frame",
        "full": "All frames",
        "pair": "First and last frame",
        "style-aligned": "Itself and first frame, aligned",
        "reference": "Itself and first window",
    }
)
LEVELS: Mapping[str, str] = MappingProxyType(
    {"full": "Full size", "half": "Half size", "quarter": "Quarter size", "eighth": "Eighth size"}
)
"""The sizes at which the UNet looks at a picture, from the latents' own down."""


@dataclass(frozen=True)
class CrossFrame:
    """Where the keys and values of spatial self-attention come from."""

    cross_frame: str = setting(
        Choice, "auto", "Cross-frame attention", "the frames at which each frame looks, in place of itself", MODES,
        key="Motion cross-frame attention", group="cross_frame",
        detail="in the UNet's self-attention; it keeps looks steady. auto: the first frame where there is no motion "
        "module, else none",
    )  # fmt: skip
    cross_frame_levels: tuple[str, ...] = setting(
        Several, tuple(LEVELS), "Cross-frame levels", "sizes at which it looks: small for what is where, large for "
        "surfaces", LEVELS, key="Motion cross-frame levels", group="cross_frame", needs=("cross_frame",),
    )  # fmt: skip
    cross_frame_start: float = setting(
        Number, 0.0, "Cross-frame start", "when it begins to look: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion cross-frame start", group="cross_frame", needs=("cross_frame",),
    )  # fmt: skip
    cross_frame_end: float = setting(
        Number, 1.0, "Cross-frame end", "when it ceases to look: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion cross-frame end", group="cross_frame", needs=("cross_frame",),
    )  # fmt: skip
    cross_frame_strength: float | str = setting(
        Varying, 1.0, "Cross-frame strength", "how much that counts; 0 = each frame looks at itself; or a curve",
        0, 1, 0.05, 1, key="Motion cross-frame strength", group="cross_frame", needs=("cross_frame",),
        detail="between 0 and 1 self-attention is computed twice",
    )  # fmt: skip
    clip_norms: bool = setting(
        Flag, False, "Norms over the clip", "frames share the statistics of the UNet's norms",
        key="Motion norms over the clip", group="cross_frame", needs=("cross_frame",),
        detail="as in ControlVideo and Tune-A-Video; personalised checkpoints rather have one for each frame",
    )  # fmt: skip

    def cross_frame_mode(self, zero_shot: bool) -> str:
        """What "auto" means for a clip, which has a motion module or not."""
        automatic = "first" if zero_shot else "none"
        return automatic if self.cross_frame == "auto" else self.cross_frame

    def check_cross_frame(self) -> None:
        """Raise MotionError if cross-frame attention ends before it begins."""
        if self.cross_frame_start > self.cross_frame_end:
            raise MotionError(
                f"cross frame start is {self.cross_frame_start:g}: give at most cross frame end, "
                f"{self.cross_frame_end:g}"
            )
