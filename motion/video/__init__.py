"""Clips on disk: write them with the generation parameters inside, read both back."""

from motion.video.read import Clip, read, read_parameters
from motion.video.write import check_destination, write

__all__ = ["Clip", "check_destination", "read", "read_parameters", "write"]
