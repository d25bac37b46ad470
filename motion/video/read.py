"""Read a clip, and the generation parameters inside it, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from motion.errors import MotionError
from motion.video.encoders import import_av
from motion.video.exif import EXIF_IFD, USER_COMMENT, decode_user_comment
from motion.video.write import PathLike

# Only what holds its own pixels: other decoders start programs (PostScript) or open further addresses (playlists).
STILLS = (".png", ".jpg", ".jpeg")
_IMAGES = ("PNG", "GIF", "WEBP", "JPEG")
_MOVIES = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi", "protocol_whitelist": "file"}

Frames = npt.NDArray[np.uint8]
_Result = TypeVar("_Result")


class Clip(NamedTuple):
    frames: Frames  # f h w 3, RGB
    fps: float | None  # None for a still and for a folder of stills
    parameters: str | None


def read(path: PathLike) -> Clip:
    """All frames of a clip file or of a folder's PNG and JPEG files, with the rate and the parameters.

    Encoders store equal neighbours as one long frame; each frame here lasts as long as the shortest, so they come
    back as several (a clip that never changes: as one). Raises MotionError for what is no clip.
    """
    path = Path(path)
    if not path.is_dir():
        return _open(path, _read_image, _read_movie)
    stills = [read(still) for still in _stills(path)]
    if len({still.frames.shape for still in stills}) > 1:
        raise MotionError(f"The images in {path} differ in size: keep one clip per folder.")
    return Clip(np.concatenate([still.frames for still in stills]), None, stills[0].parameters)


def read_parameters(path: PathLike) -> str | None:
    """The generation parameters inside a clip, a still or a folder's first PNG file; None if there are none.

    Raises MotionError for what is no clip.
    """
    path = Path(path)
    return _open(_stills(path)[0] if path.is_dir() else path, _image_parameters, _movie_parameters)


def _stills(folder: Path) -> list[Path]:
    stills = sorted(path for path in folder.iterdir() if path.suffix.lower() in STILLS)
    if not stills:
        raise MotionError(f"The folder {folder} holds no .png or .jpg files: name a folder of frames or a clip.")
    return stills


def _open(path: Path, image: Callable[[Any], _Result], movie: Callable[[Any], _Result]) -> _Result:
    """Hand the opened file to `image` or, if it is none, to `movie`."""
    if not path.exists():
        raise MotionError(f"{path} does not exist: check the name.")
    try:
        try:
            with Image.open(path, formats=_IMAGES) as picture:
                return image(picture)
        except UnidentifiedImageError:
            av = import_av()  # from 19 on without the option
            lenient = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
            with av.open(str(path.resolve()), options=_MOVIES, **lenient) as container:
                return movie(container)
    except MotionError:
        raise
    except Exception as error:  # a parser of broken files raises nearly anything
        raise MotionError(f"{path} is no clip that can be read ({type(error).__name__}): give another file.") from error


def _read_image(picture: Image.Image) -> Clip:
    parameters = _image_parameters(picture)
    frames, milliseconds = [], []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGB")))
        milliseconds.append(float(picture.info.get("duration", 0)))
    shortest = min(milliseconds)
    if len(frames) == 1 or shortest <= 0:
        return Clip(np.stack(frames), None, parameters)
    # Single frames differ by a tick of rounding, so their mean is the period.
    period = float(np.mean([duration for duration in milliseconds if duration < 1.5 * shortest]))
    repeats = [round(duration / period) for duration in milliseconds]
    return Clip(np.repeat(np.stack(frames), repeats, axis=0), 1000 * sum(repeats) / sum(milliseconds), parameters)


def _image_parameters(picture: Image.Image) -> str | None:
    chunk = picture.info.get("parameters")
    if isinstance(chunk, str):
        return chunk
    comment = picture.info.get("comment")
    if isinstance(comment, bytes):
        return comment.decode(errors="replace")
    comment = picture.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    return decode_user_comment(comment) if isinstance(comment, bytes) else None


def _read_movie(container: Any) -> Clip:
    stream = container.streams.video[0]
    if stream.codec_context is None:  # PyAV before 18 would decode on, and crash the process
        raise ValueError("unknown codec")
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    rate = stream.average_rate
    return Clip(np.stack(frames), float(rate) if rate else None, _movie_parameters(container))


def _movie_parameters(container: Any) -> str | None:
    tags = {name.lower(): text for name, text in container.metadata.items()}  # Matroska shouts its names
    return tags.get("parameters") or tags.get("comment")
