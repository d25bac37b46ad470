"""The parts of the tiny checkpoints, and a module that fits them in place of the oracle's."""

from __future__ import annotations

from pathlib import Path

import pytest

from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.parts import Parts
from tests.support.tiny import sd15_originals, sdxl_originals, v3

__all__ = ["parts", "sd15_originals", "sdxl_originals", "v3"]  # fixtures


@pytest.fixture(scope="module")
def parts(tiny: Path) -> dict[str, Parts]:
    return {base: open_parts(tiny / f"{base}.safetensors") for base in ("sd15", "sdxl")}
