"""One loader for movies: frames one by one, as a player shows them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion.errors import MotionError
from motion.video.encoders import import_av
from motion.video.pictures import Frame, blend, check_size

# Only what holds its own pixels: other demuxers open further addresses (playlists).
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts", "protocol_whitelist": "file"}
# ITU-T H.273.
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2
_HD = (1280, 576)
"""What is wider or higher was made for HD and, without a tag, by BT.709; smaller by BT.601, FFmpeg's own guess."""
_OF_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that heed WebM's alpha channel; FFmpeg's own leave it out."""
AV_TIME_BASE = 1_000_000
"""Of FFmpeg: ticks of a second in which it seeks."""
_FAR, _EARLY = 64, 1e-3
"""Frames that are decoded for a glimpse behind the one that can be sought, and seconds that it may come too early."""
_STRETCH = (Fraction(1, 8), Fraction(8))
"""Sample aspect ratios beyond are a damaged file's."""


@contextmanager
def open_movie(path: Path) -> Iterator[Any]:
    """PyAV's container of a file with a video that can be decoded. Raises nearly anything for another."""
    av = import_av()  # from 19 on without the option
    lenient = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    with av.open(str(path.resolve()), options=_OPTIONS, **lenient) as container:
        if container.streams.video[0].codec_context is None:  # PyAV before 18 would decode on, and crash the process
            raise ValueError("unknown codec")
        yield container


def rate(container: Any) -> float | None:
    """Frames per second, on average."""
    average = container.streams.video[0].average_rate
    return float(average) if average else None


def count(container: Any) -> int:
    """How many frames the file holds: one in each packet of the video."""
    stream = container.streams.video[0]
    return sum(packet.size > 0 for packet in container.demux(stream))


def parameters(container: Any) -> str | None:
    """The generation parameters among a movie's tags."""
    tags = {name.lower(): text for name, text in container.metadata.items()}  # Matroska shouts its names
    return tags.get("parameters") or tags.get("comment")


def frames(container: Any, span: slice, background: str, name: str) -> Iterator[Frame]:
    """The frames that ``span`` names. Raises MotionError for HDR and for frames that are too large."""
    stream = _prepared(container, name)
    for frame in islice(_decoded(container, stream), span.start, span.stop, span.step):
        check_size(frame.width, frame.height, name)
        yield _upright(_in_rgb(frame, stream.sample_aspect_ratio, background), frame)


def glimpses(container: Any, places: Sequence[int], background: str, name: str) -> Iterator[Frame]:
    """A frame at or near each of ``places``, of those that can be reached at all; errors as of `frames`."""
    stream = _prepared(container, name)
    for place in places:
        time = float(place / (stream.average_rate or 1))
        container.seek(int(time * AV_TIME_BASE))
        near = None
        for near in islice(_decoded(container, stream), _FAR):
            if near.time is None or near.time >= time - _EARLY:
                break
        if near is not None:
            check_size(near.width, near.height, name)
            yield _upright(_in_rgb(near, stream.sample_aspect_ratio, background), near)


def _prepared(container: Any, name: str) -> Any:
    """The video of a file, to be decoded. Raises MotionError for HDR and for frames that are too large."""
    stream = container.streams.video[0]
    transfer = _HDR.get(getattr(stream.codec_context, "color_trc", _UNSPECIFIED))
    if transfer is not None:
        raise MotionError(f"{name} is an HDR video ({transfer}), which is not read: convert it to SDR")
    check_size(stream.codec_context.width, stream.codec_context.height, name)
    stream.thread_type = "AUTO"
    return stream


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    name = stream.codec_context.name
    if name not in _OF_ALPHA or {key.lower(): text for key, text in stream.metadata.items()}.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder = import_av().CodecContext.create(_OF_ALPHA[name], "r")
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def _in_rgb(frame: Any, aspect: Fraction | None, background: str) -> Frame:
    """A decoded frame in square pixels, blended over ``background`` where it has an alpha channel."""
    guess = {}
    if frame.colorspace == _UNSPECIFIED and (frame.width >= _HD[0] or frame.height > _HD[1]):
        guess = {"src_colorspace": "ITU709"}
    width = frame.width
    if aspect and _STRETCH[0] <= aspect <= _STRETCH[1]:
        width = max(1, round(width * aspect))
    alpha = frame.format.has_palette or any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if alpha else "rgb24", width=width, height=frame.height, **guess)
    return np.asarray(blend(Image.fromarray(pixels), background).convert("RGB")) if alpha else pixels


def _upright(pixels: Frame, frame: Any) -> Frame:
    """The pixels turned and mirrored to the next quarter as the file's display matrix says."""
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this PyAV has no name for
        return np.rot90(pixels, round(frame.rotation / 90))
    if found is None:
        return pixels
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(found))  # a place (x, y) is shown at (ax + cy, bx + dy)
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
