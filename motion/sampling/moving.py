"""The rows of a batch that temporal layers see together, and the others: of clips that stand still, and only read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from motion import patching
from motion.models import sites
from motion.models.motion.temporal import Fusion, by_clip, over_frames, per_frame
from motion.sampling.arrangement import Arrangement
from motion.sampling.rows import laid_out_as_given


def move(x: Tensor, arrangement: Arrangement, layer: Callable[[Tensor, int, Fusion | None], Tensor]) -> Tensor:
    """What a temporal ``layer`` makes of the rows ``x`` that it is given, their number of frames and their windows; the
    other rows stay."""
    if arrangement.whole:
        arrangement.pause()
    moving, others = _apart(x, arrangement)
    moved = layer(moving, len(arrangement.moving), arrangement.fusion(x))
    return moved if others is None else _together(x, moved, others, arrangement)


def norm_over_clip(found: sites.Sites, arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the norms of the ResBlocks have one statistic over the frames of a clip, however often this is asked for."""
    for norm in found.resnet_norms:
        undo.callback(patching.item(vars(norm), "forward", _joining(norm.forward, arrangement)))


def _joining(norm: Callable[[Tensor], Tensor], arrangement: Arrangement) -> Callable[[Tensor], Tensor]:
    """``norm`` with one statistic over the frames that move together; the others keep their own."""

    def joined(x: Tensor) -> Tensor:
        if arrangement.still or x.ndim == 5:  # another scope has joined them already
            return norm(x)
        moving, others = _apart(x, arrangement)
        output = per_frame(norm(over_frames(moving, len(arrangement.moving))))
        return output if others is None else _together(x, output, norm(others), arrangement)

    return joined


def _apart(x: Tensor, arrangement: Arrangement) -> tuple[Tensor, Tensor | None]:
    """The rows of the frames that move together, and if there are any, of the others: those of clips that stand still,
    then those that are only read."""
    frames, moving, still = len(arrangement.together), len(arrangement.moving), arrangement.still_rows
    if frames == moving and not still:
        return x, None

    def part(frames_of_clips: slice) -> Callable[[Tensor], Tensor]:
        return lambda x: by_clip(x[still:], frames)[:, frames_of_clips].flatten(0, 1)

    read = laid_out_as_given(x, part(slice(moving, None)))
    return laid_out_as_given(x, part(slice(moving))), torch.cat([x[:still], read])


def _together(x: Tensor, moving: Tensor, others: Tensor, arrangement: Arrangement) -> Tensor:
    """The inverse of `_apart`, laid out as ``x``, which was taken apart."""
    rows, still = torch.empty_like(x, dtype=moving.dtype), arrangement.still_rows
    clips, count = by_clip(rows[still:], len(arrangement.together)), len(arrangement.moving)
    rows[:still] = others[:still]
    clips[:, :count] = by_clip(moving, count)
    if read := clips.shape[1] - count:
        clips[:, count:] = by_clip(others[still:], read)
    return rows
