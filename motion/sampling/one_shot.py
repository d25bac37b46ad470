"""One-shot tuning on a UNet: `load` reads a tuned clip's file, `attach` is the scope in which it moves like the clip.

Tune-A-Video (Wu et al. 2022, arXiv:2212.11565, section 4): self-attention reads the first frame and the one before,
queries are the tuned ones, and behind each spatial block every token attends to itself in the other frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.models import sites
from motion.models.one_shot import QUERIES, FramesAttention, OneShotModel
from motion.sampling import cross_frame
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import CastModule
from motion.sampling.moving import move
from motion.sampling.windows import Windows
from motion.weights.formats.one_shot import load

__all__ = ["OneShotModel", "attach", "load"]


@contextmanager
def attach(
    unet: nn.Module,
    model: OneShotModel,
    frames: int = 16,
    *,
    clip_norms: bool = True,
    arrangement: Arrangement | None = None,
) -> Iterator[None]:
    """Within the scope every forward of ``unet`` sees its batch ``(groups frames)`` as clips like the tuned one.

    ``clip_norms``: the GroupNorms of the ResBlocks have one statistic over the clip, as when it was tuned. The tuned
    queries stand in for the UNet's own, so LoRAs change these no more. An ``arrangement`` must be that of whatever cuts
    the clip into windows. ``model`` is neither moved nor cast, and gradients reach it. On exit the UNet is exactly as
    it was found.

    Raises MotionError for a model of another UNet, a clip of one frame, and a UNet with cross-frame attention already.
    """
    arrangement = arrangement or Arrangement(Windows(frames))
    reading = {"clip_norms": clip_norms, "arrangement": arrangement}
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        blocks = sites.spatial_blocks(unet)
        _check_fit(model, blocks)
        undo.enter_context(cross_frame.attach(unet, frames, "sparse-causal", **reading))  # type: ignore[arg-type]
        for name, tuned in model.blocks.items():
            for layer in QUERIES:
                queries = CastModule(tuned.get_submodule(layer))
                undo.callback(patching.item(vars(blocks[name].get_submodule(layer)), "forward", queries))
            undo.callback(patching.after(blocks[name], _Continuation(tuned, arrangement)))
        yield


class _Continuation:
    """The forward hook that lets attention along the frames continue a spatial block."""

    def __init__(self, tuned: Any, arrangement: Arrangement) -> None:
        self.attention = CastModule(FramesAttention(tuned))
        self.arrangement = arrangement

    def __call__(self, block: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if self.arrangement.still:
            return None
        return move(output, self.arrangement, lambda x, frames, fusion: self.attention(x, frames, fusion))


def _check_fit(model: OneShotModel, blocks: dict[str, nn.Module]) -> None:
    """Raise MotionError unless each of the UNet's blocks was tuned, in its width."""
    theirs = {name: block.get_submodule(QUERIES[0]).get_parameter("weight").shape[0] for name, block in blocks.items()}
    ours = {name: tuned.channels for name, tuned in model.blocks.items()}
    if ours != theirs:
        raise MotionError(
            f"this Tune-A-Video file has {len(ours)} blocks of {max(ours.values())} channels at most, and the "
            f"checkpoint {len(theirs)}{f' of {max(theirs.values())}' if theirs else ''}: give the checkpoint that it "
            "was tuned on, or one of its base"
        )
