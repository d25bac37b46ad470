"""What settings choose from: option names, with the labels that interfaces and infotext have for them, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MOST_FRAMES = 10_000
"""Of the longest clip, twenty minutes at 8 a second."""
SAMPLERS: Mapping[str, str] = MappingProxyType(
    {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M", "lcm": "LCM"}
)
"""Sampler by its option name, with the name the WebUI knows it by."""
LOOPS: Mapping[str, str] = MappingProxyType({"none": "None", "closed": "Closed", "ping-pong": "Ping-pong"})
SEED_MODES: Mapping[str, str] = MappingProxyType({"clip": "Clip", "frame": "Frame"})
MODULE_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"auto": "Auto", "v1": "v1", "v2": "v2", "v3": "v3", "animatelcm": "AnimateLCM", "sdxl": "AnimateDiff SDXL",
     "hotshot": "Hotshot-XL"}
)  # fmt: skip
BETAS: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Auto",
        "linear": "Linear (AnimateDiff)",
        "scaled_linear": "Scaled linear (Stable Diffusion)",
        "sdxl": "Scaled linear (AnimateDiff SDXL)",
    }
)
CONTEXT_SCHEDULES: Mapping[str, str] = MappingProxyType(
    {
        "uniform": "Uniform",
        "static": "Static",
        "batched": "Batched",
        "composite": "Composite",
        "hierarchical": "Hierarchical",
    }
)
SECOND_SCHEDULES: Mapping[str, str] = MappingProxyType(
    {name: label for name, label in CONTEXT_SCHEDULES.items() if name != "hierarchical"}
)
"""Those whose windows are of the same length as others'."""
CONTEXT_FUSES: Mapping[str, str] = MappingProxyType(
    {
        "flat": "Flat",
        "pyramid": "Pyramid",
        "overlap-linear": "Overlap-linear",
        "relative": "Relative",
        "random": "Random",
        "gauss": "Gauss-sigma",
        "sawtooth": "Delayed reverse sawtooth",
    }
)
CONTEXT_ENGINES: Mapping[str, str] = MappingProxyType({"denoiser": "Denoiser", "attention": "Temporal attention"})
NOISES: Mapping[str, str] = MappingProxyType(
    {
        "auto": "Auto",
        "independent": "Independent",
        "freenoise": "FreeNoise",
        "repeated": "Repeated",
        "constant": "Constant",
        "mixed": "Mixed",
        "progressive": "Progressive",
        "empty": "Empty",
    }
)
STEP_NOISES: Mapping[str, str] = MappingProxyType({"own": "Own", "constant": "Constant"})
TRAVELS: Mapping[str, str] = MappingProxyType({"linear": "Linear", "spherical": "Spherical"})
FREEINIT_FILTERS: Mapping[str, str] = MappingProxyType(
    {"butterworth": "Butterworth", "gaussian": "Gaussian", "ideal": "Ideal", "box": "Box"}
)
SPACINGS: Mapping[str, str] = MappingProxyType(
    {"auto": "Auto", "leading": "Leading", "linspace": "Linspace", "trailing": "Trailing"}
)
FITS: Mapping[str, str] = MappingProxyType({"crop": "Crop", "pad": "Pad"})
