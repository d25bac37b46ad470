"""Weights files: which kind one is, its tensors under the authors' names, and the motion module in it."""

from __future__ import annotations

from motion.weights.checkpoint import FAMILY_HINT, load, read
from motion.weights.describe import describe
from motion.weights.names import to_canonical, to_diffusers

__all__ = ["FAMILY_HINT", "describe", "load", "read", "to_canonical", "to_diffusers"]
