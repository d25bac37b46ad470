"""One encoder per container. All have the signature of `Encoder` and write to the path they are given."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from motion.errors import MotionError
from motion.video.exif import encode_user_comment
from motion.video.palette import dither, shared_palette
from motion.video.pictures import Frame

Encoder = Callable[[Iterator[Frame], Path, Fraction, str], None]

# ITU-T H.273: the primaries and curve of BT.709, the matrix of BT.601 (what FFmpeg converts by), limited range.
_COLOURS = {"color_primaries": 1, "color_trc": 1, "colorspace": 6, "color_range": 1}
_CENTISECOND, _MILLISECOND = 100, 1000  # ticks per second of GIF, and of WebP and APNG


class _Codec(NamedTuple):
    container: str
    name: str
    options: dict[str, str]
    muxer: dict[str, str]


_H264 = _Codec("mp4", "libx264", {"crf": "16", "preset": "medium"}, {"movflags": "+faststart"})
_VP9 = _Codec("webm", "libvpx-vp9", {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"}, {})
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def durations(frames: int, fps: Fraction, ticks: int) -> list[int]:
    """How long each frame stays, in 1/`ticks` s, so that each begins within half a tick of its due time."""
    starts = [round(frame * ticks / fps) for frame in range(frames + 1)]
    return [end - start for start, end in pairwise(starts)]


def encode_gif(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str) -> None:
    """One palette for the whole clip (a palette per frame flickers), a fixed dither, endless loop, text as comment."""
    clip = np.stack(list(frames))
    palette = shared_palette(clip)
    first, *rest = (dither(frame, palette) for frame in clip)
    _save_animation(
        first,
        rest,
        path,
        format="GIF",
        duration=[10 * centiseconds for centiseconds in durations(len(clip), fps, _CENTISECOND)],
        palette=palette.image.getpalette(),  # or each frame would bring its own copy
        optimize=False,
        **({"comment": parameters.encode()} if parameters else {}),
    )


def encode_webp(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str) -> None:
    """Lossless: the smallest container that keeps every pixel and that browsers play. Text as EXIF user comment."""
    first, *rest = map(Image.fromarray, frames)
    _save_animation(
        first,
        rest,
        path,
        format="WEBP",
        lossless=True,
        duration=durations(1 + len(rest), fps, _MILLISECOND),
        **({"exif": encode_user_comment(parameters)} if parameters else {}),
    )


def encode_png(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str) -> None:
    """A still for one frame, an APNG for several. Text as the chunk `parameters`, as the WebUI hosts write it."""
    first, *rest = map(Image.fromarray, frames)
    chunks = PngImagePlugin.PngInfo()
    if parameters:
        chunks.add_text("parameters", parameters)
    if not rest:
        first.save(path, format="PNG", pnginfo=chunks)
        return
    milliseconds = durations(1 + len(rest), fps, _MILLISECOND)
    _save_animation(first, rest, path, format="PNG", pnginfo=chunks, duration=milliseconds)


def encode_folder(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str) -> None:
    """A new folder of 00000.png, 00001.png, ..., each with the text."""
    path.mkdir()
    for index, frame in enumerate(frames):
        encode_png(iter((frame,)), path / f"{index:05}.png", fps, parameters)


def encode_mp4(
    frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str, options: Mapping[str, str] = NO_OPTIONS
) -> None:
    """H.264 as every player takes it: 4:2:0, even sizes (an odd edge is repeated once), index at the front.

    ``options`` of x264 (crf, preset, profile) count instead of our own.
    """
    even = (np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge") for frame in frames)
    _encode_movie(even, path, fps, parameters, _H264._replace(options={**_H264.options, **options}))


def encode_webm(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str) -> None:
    """VP9 at constant quality."""
    _encode_movie(frames, path, fps, parameters, _VP9)


def import_av() -> ModuleType:
    """PyAV, or one sentence that says how to get it: everything but MP4 and WebM works without."""
    try:
        import av
    except ImportError as error:
        raise MotionError(
            f"MP4 and WebM need PyAV ({error}): run `pip install av`, or choose .gif, .webp, .apng or a folder."
        ) from error
    return av


def _save_animation(first: Image.Image, rest: list[Image.Image], path: Path, **options: Any) -> None:
    try:
        first.save(path, save_all=True, append_images=rest, loop=0, **options)
    except (OverflowError, struct.error) as error:  # equal neighbours are stored as one long frame
        raise MotionError(
            "A picture of the clip stays longer than its format can say: choose .mp4 or .webm."
        ) from error


def _encode_movie(frames: Iterator[Frame], path: Path, fps: Fraction, parameters: str, codec: _Codec) -> None:
    """Streams `frames`. The file says how its colours are to be read, for players guess by size if it does not.

    FFmpeg is given the whole path: it takes what is in front of a colon for a protocol.
    """
    av = import_av()
    first = next(frames)
    with av.open(str(path.resolve()), "w", format=codec.container, options=codec.muxer) as movie:
        if parameters:
            movie.metadata["comment"] = parameters
        stream = movie.add_stream(codec.name, rate=fps, options=codec.options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for tag, value in _COLOURS.items():
            setattr(stream.codec_context, tag, value)
        for frame in chain((first,), frames):
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        movie.mux(stream.encode())
