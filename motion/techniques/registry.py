"""All techniques: the one place that lists them. Which of them a clip asks for is in its settings."""

from __future__ import annotations

from typing import Any

from motion.errors import MotionError
from motion.techniques.cfg_curve import CfgCurve
from motion.techniques.cfg_ramp import CfgRamp
from motion.techniques.ddim_inversion import DdimInversion
from motion.techniques.freeinit import FreeInit
from motion.techniques.freenoise import SharedNoise
from motion.techniques.interleaved_smoothing import InterleavedSmoothing
from motion.techniques.layered_noise import LayeredNoise
from motion.techniques.naive_reuse import NaiveReuse
from motion.techniques.noise_layers import NoiseLayers
from motion.techniques.oscillating import OscillatingGuidance
from motion.techniques.replacement import CleanReplacement, Replacement
from motion.techniques.rescale_cfg import RescaleCfg
from motion.techniques.technique import Plan, Techniques
from motion.techniques.temporal_guidance import TemporalGuidance
from motion.techniques.text2video_zero import Text2VideoZero
from motion.techniques.thresholding import DynamicThresholding

KINDS: tuple[Any, ...] = (
    SharedNoise,
    LayeredNoise,
    NoiseLayers,
    DdimInversion,
    FreeInit,
    Text2VideoZero,
    CfgRamp,
    CfgCurve,
    OscillatingGuidance,
    TemporalGuidance,
    RescaleCfg,
    DynamicThresholding,
    NaiveReuse,
    InterleavedSmoothing,
    Replacement,
    CleanReplacement,
)
"""Each is made of a clip's settings, and says by `wanted` whether they ask for it."""


def techniques_of(settings: Any) -> Techniques:
    """The techniques that a clip's settings ask for."""
    return Techniques(kind(settings) for kind in KINDS if kind.wanted(settings))


def check(techniques: Techniques, plan: Plan) -> None:
    """Raise MotionError, before anything is drawn, for a technique that cannot act on the clip, and for two that set
    the same thing."""
    for technique in techniques.members:
        technique.check(plan)
    if techniques.rounds > 1 and (detours := techniques.have("detour")):
        raise MotionError(f"{detours[0].label} draws a clip once: set FreeInit to 1")
    if len(both := techniques.have("scales")) > 1:
        raise MotionError(f"{both[0].label} and {both[1].label} both set the CFG scale: turn one of them off")
