"""The settings of the techniques that act on each step's prediction, collected from their files."""

from __future__ import annotations

from dataclasses import dataclass

from motion.techniques.cfg_curve import CfgCurveSettings
from motion.techniques.cfg_ramp import CfgRampSettings
from motion.techniques.interleaved_smoothing import SmoothingSettings
from motion.techniques.naive_reuse import NaiveReuseSettings
from motion.techniques.oscillating import OscillatingSettings
from motion.techniques.replacement import ReplacementSettings
from motion.techniques.rescale_cfg import RescaleCfgSettings
from motion.techniques.temporal_guidance import TemporalGuidanceSettings
from motion.techniques.thresholding import ThresholdingSettings


@dataclass(frozen=True)
class Guidance(
    NaiveReuseSettings,
    SmoothingSettings,
    ReplacementSettings,
    TemporalGuidanceSettings,
    ThresholdingSettings,
    RescaleCfgSettings,
    OscillatingSettings,
    CfgCurveSettings,
    CfgRampSettings,
):
    """All of them. Interfaces show the last class's first."""
