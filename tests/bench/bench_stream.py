"""What a long clip adds to a process's memory, from the prompt to the movie, over what a clip of 16 frames takes.

    python tests/bench/bench_stream.py                        2,000 frames of 512 px, the bundled models, CPU
    python tests/bench/bench_stream.py --sparing --steps 3    in minutes: memory alone, of all that is kept for the clip
    python tests/bench/bench_stream.py --frames 300 --checkpoint model.safetensors --motion module.safetensors
    python tests/bench/bench_stream.py --sparing --source    also of the clip drawn anew from a movie of as many frames

Each length runs in a process of its own that opens the models, draws, decodes and encodes an MP4. The second column is
the peak of what that process holds; the last what the length adds to it, models and libraries taken away by the
difference. On a GPU the peak of the device is printed as well. ``--sparing``: two of each hundred calls of UNet and VAE
are computed, the others hand back something of the size; what a call takes for itself does not add up.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_step import hardware

import motion
from motion import video
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.hosts.standalone import Standalone
from motion.settings.settings import Clip
from motion.weights.bundled import DEMO

SHORT = 16
SPARED = 100
"""With ``--sparing``, from how many calls two are computed."""
GIGABYTE = 1e9


class Peak(NamedTuple):
    """What one length came to: bytes of the process and of the device, seconds."""

    host: float
    device: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path(DEMO["checkpoint"]))
    parser.add_argument("--motion", type=Path, default=Path(DEMO["motion"]))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--sampler", default="dpmpp_2m")
    parser.add_argument("--cfg", type=float, default=Clip().cfg, help="guidance; 1 computes half")
    parser.add_argument("--source", action="store_true", help="a third row: the same clip made of a movie")
    parser.add_argument("--sparing", action="store_true", help="compute two of a hundred calls; seconds mean nothing")
    options = parser.parse_args()
    say(f"{hardware(options.device)}, torch {torch.__version__}, {options.size} px, {options.steps} steps\n")
    say("| frames | host GB | device GB | seconds | host GB more |\n|---|---|---|---|---|")
    least = 0.0
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(Path(folder) / "source.mp4", options) if options.source else None
        clips = [(SHORT, None), (options.frames, None), *([(options.frames, source)] if source else [])]
        for frames, made_of in clips:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak = pool.apply(measured, (frames, options, made_of))
            least = least or peak.host
            row = f"{peak.host / GIGABYTE:.2f} | {peak.device / GIGABYTE:.2f} | {peak.seconds:.0f}"
            what = f"{frames} of a source" if made_of else frames
            say(f"| {what} | {row} | {(peak.host - least) / GIGABYTE:.2f} |")


def write_source(path: Path, options: argparse.Namespace) -> Path:
    """A movie of as many frames: bars that move."""
    rows = np.arange(options.size)[:, None, None]
    bars = ((rows + 4 * number) % 256 * np.ones((1, options.size, 3)) for number in range(options.frames))
    video.write((frame.astype(np.uint8) for frame in bars), path, 8, "")
    return path


def spare(model: nn.Module, instead: Callable[[Tensor], Tensor]) -> None:
    """Let ``instead`` answer most calls of a model."""
    forward, calls = model.forward, itertools.count()

    def spared(*args: Any, **kwargs: Any) -> Any:
        if next(calls) % SPARED < 2:
            return forward(*args, **kwargs)
        answer = instead(args[0])
        return answer if kwargs.get("return_dict", True) else (answer,)

    model.forward = spared


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measured(frames: int, options: argparse.Namespace, source: Path | None) -> Peak:
    """Draw and write a clip of so many frames."""
    start, on_cuda = time.perf_counter(), options.device != "cpu"
    host, module = Standalone.open(options.checkpoint, options.device), motion.load(options.motion)
    size = Size(options.size, options.size)
    drawn = {name: getattr(options, name) for name in ("steps", "sampler", "cfg")}
    if options.sparing:
        spare(host.parts.unet, lambda sample: sample * 1.0)
        spare(host.parts.vae.encoder, lambda pixels: pixels[:, :1, ::8, ::8].repeat(1, 8, 1, 1))
        spare(host.parts.vae.decoder, lambda latents: latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3))
    clip = Clip("0: a circle\n-1: a square", frames=frames, size=size, strength=1.0, **drawn)
    made_of = None if source is None else Source(source)
    with tempfile.TemporaryDirectory() as folder:
        video.write(host.stream(clip, module, source=made_of), Path(folder) / "clip.mp4", clip.fps, "")
    device = float(torch.cuda.max_memory_allocated()) if on_cuda else 0.0
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return Peak(1024.0 * kilobytes, device, time.perf_counter() - start)


if __name__ == "__main__":
    main()
