"""The parts of the tiny checkpoints, and a module that fits them in place of the oracle's."""

from tests.support.tiny import sd15_originals, sdxl_originals, v3

__all__ = ["sd15_originals", "sdxl_originals", "v3"]  # fixtures
