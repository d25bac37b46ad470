"""Clips on disk: write them with the generation parameters inside, read both back."""

from motion.video.destination import check_destination
from motion.video.read import Clip, ClipReader, open_clip, read, read_parameters
from motion.video.write import write

__all__ = ["Clip", "ClipReader", "check_destination", "open_clip", "read", "read_parameters", "write"]
