"""How loud a sound is over the frames of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from motion.errors import MotionError
from motion.video.encoders import import_av

RATE = 44100
"""Samples a second that sounds are heard at."""
LEAST = 2048
"""Samples that are listened to at least for a frame: 20 Hz is heard in no fewer."""
_OPTIONS = {
    "format_whitelist": "wav,mp3,flac,ogg,aac,aiff,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts",
    "protocol_whitelist": "file",
}


def loudness(path: Path, band: tuple[int, int], frames: int, fps: float) -> list[float]:
    """The loudness of a sound, or of the sound of a movie, in each of ``frames`` at ``fps`` a second.

    The root of the mean square of what lies in ``band`` (Hertz), from 0 for silence to 1 for the loudest of these
    frames; 0 behind the sound's end. Raises MotionError for a file that holds no sound.
    """
    samples = _samples(path, frames / fps + LEAST / RATE)
    length = max(round(RATE / fps), LEAST)
    bins = np.fft.rfftfreq(length, 1 / RATE)
    inside, shape = (bins >= band[0]) & (bins < band[1]), np.hanning(length)
    found = []
    for frame in range(frames):
        start = round(frame * RATE / fps)
        heard = samples[start : start + length]
        spectrum = np.fft.rfft(np.pad(heard, (0, length - len(heard))) * shape)
        found.append(float(np.sqrt(np.square(np.abs(spectrum[inside])).sum())))
    loudest = max(found)
    return [value / loudest for value in found] if loudest else found


def _samples(path: Path, seconds: float) -> npt.NDArray[np.float32]:
    """The first ``seconds`` of a file's sound, one channel."""
    if not path.is_file():
        raise MotionError(f"the sound {path} does not exist: give a WAV, MP3 or FLAC file, or a movie with sound")
    av = import_av()
    most, parts = int(seconds * RATE), list[Any]()
    try:
        with av.open(str(path.resolve()), options=_OPTIONS) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            for frame in container.decode(container.streams.audio[0]):
                parts += [made.to_ndarray()[0] for made in resampler.resample(frame)]
                if sum(map(len, parts)) >= most:
                    break
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise MotionError(f"{path.name} holds no sound that can be read: give a WAV, MP3 or FLAC file") from error
    return np.concatenate([*parts, np.zeros(0, np.float32)])[:most].astype(np.float32)
