"""Seconds per frame and peak memory of one UNet step on long clips over those on 16 frames, for both engines.

    python tests/bench/bench_long.py                                 a small UNet of SD1.5's layout, 128 px, CPU
    python tests/bench/bench_long.py --widths 320 640 1280 1280 --device cuda --size 512

Beside them diffusers' FreeNoise on the same weights (windows of 16, 12 apart, all frames in one call). ``time`` is the
median over the repetitions, in which all take turns. ``memory``: what the step adds at its peak (on a CPU the peak of a
process of its own, torch and weights taken away, in as many steps as make two calls of the UNet). The windows of the
engine "denoiser" compute an overlap's frames twice: ``share`` is how many frames they hold over the clip's, the part of
the time that no implementation saves.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_step import CONTEXT, TOKENS, filled, hardware, measure

import motion
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.weights.formats.names import to_diffusers

WINDOW, OVERLAP = 16, 4
CALLS = 2
"""Calls of the UNet until a process's heap has its size: from the second on (of 86 tried) its peak is the same, in the
first it is a sixth less."""
WAYS = ("denoiser", "attention", "attention in parts", "diffusers FreeNoise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--widths", type=int, nargs=4, default=[32, 64, 128, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-frames", type=int, default=1024)
    parser.add_argument("--only", nargs="*", default=WAYS, choices=WAYS, help="rows of the table")
    options = parser.parse_args()
    found = Windows(options.frames, WINDOW, OVERLAP).at(0)
    sys.stdout.write(f"{hardware(options.device)}, torch {torch.__version__}, {options.widths}, {options.size} px\n")
    sys.stdout.write(f"share of {options.frames} frames: {len(found) * WINDOW / options.frames:.3f}\n\n")
    with torch.inference_mode():
        lengths = WINDOW, options.frames
        calls = {(way, frames): step(way, frames, options) for way in options.only for frames in lengths}
        times = {key: statistics.median(seconds) for key, seconds in measure(calls, options.repeats).items()}
    calls.clear()  # the processes that measure memory need the room
    ours.cache_clear()
    theirs.cache_clear()
    long = options.memory_frames
    sys.stdout.write(f"| | s per frame of 16 | of {options.frames} | ratio | MB of 16 | of {long} | ratio |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for way in options.only:
        short, each = (times[way, frames] / frames for frames in (WINDOW, options.frames))
        least, most = (memory(way, frames, options) / 1e6 for frames in (WINDOW, long))
        row = f"{short:.4f} | {each:.4f} | {each / short:.3f} | {least:.0f} | {most:.0f} | {most / least:.2f}"
        sys.stdout.write(f"| {way} | {row} |\n")


@functools.cache
def ours(widths: tuple[int, ...], device: str) -> tuple[UNet2DConditionModel, MotionModel]:
    """A UNet and a motion module, which all ways of a process share: at real size they have five gigabytes."""
    unet = filled(nn.Module.to(UNet2DConditionModel(**shape(widths)), device, dtype(device)))
    return unet, filled(MotionModel(Architecture.of_unet("v3", widths)).to(device, dtype(device)))


@functools.cache
def theirs(widths: tuple[int, ...], device: str) -> UNetMotionModel:
    """The same weights in diffusers' model, with FreeNoise."""
    unet, model = ours(widths, device)
    built = UNetMotionModel(**shape(widths), use_motion_mid_block=False)
    built.load_state_dict(unet.state_dict() | to_diffusers(model.state_dict()))
    adapter = MotionAdapter(block_out_channels=(32,), motion_num_attention_heads=1)  # asked for its length of 32
    pipe = AnimateDiffPipeline(None, None, None, nn.Module.to(built, device, dtype(device)).eval(), adapter, None)
    pipe.enable_free_noise(context_length=WINDOW, context_stride=WINDOW - OVERLAP)
    return built


def shape(widths: tuple[int, ...]) -> dict[str, Any]:
    """The shape of a UNet in diffusers' names."""
    return {"block_out_channels": widths, "cross_attention_dim": CONTEXT}


def dtype(device: str) -> torch.dtype:
    """What is computed in."""
    return torch.float32 if device == "cpu" else torch.float16


def step(way: str, frames: int, options: Any) -> Callable[[], object]:
    """One denoising step as a call without arguments; latents and texts lie where the standalone host has them."""
    device, widths = options.device, tuple(options.widths)
    unet, model = ours(widths, device)
    x = torch.randn(frames, 4, options.size // 8, options.size // 8)
    text = torch.randn(1, TOKENS, CONTEXT, device=device, dtype=unet.dtype)
    if way == "diffusers FreeNoise":
        built, texts = theirs(widths, device), text.expand(frames, -1, -1)
        video = x.to(device, unet.dtype).transpose(0, 1)[None]
        return lambda: built(video, 500, texts).sample
    engine, most = way.split()[0], WINDOW if way.endswith("parts") else None
    windows = Windows(frames, WINDOW, OVERLAP, engine=engine)

    def tell(_: Any, args: tuple[Tensor, int], kwargs: Any) -> Any:
        rows, t = args
        return (rows.to(device, unet.dtype), t, text.expand(len(rows), -1, -1)), kwargs

    def call() -> Tensor:
        with motion.attach(unet, model, frames, arrangement=Arrangement(windows, rows_at_once=most)):
            handle = unet.register_forward_pre_hook(tell, with_kwargs=True)
            try:
                return unet(x, 500).sample
            finally:
                handle.remove()

    return call


def memory(way: str, frames: int, options: Any) -> float:
    """Bytes that one step adds at its peak."""
    if options.device != "cpu":
        return _added(way, frames, options)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added, (way, frames, options))


def _added(way: str, frames: int, options: Any) -> float:
    with torch.inference_mode():
        call = step(way, frames, options)
        step("denoiser", 1, options)()  # what the libraries keep from their first use
        if options.device != "cpu":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            call()
            return float(torch.cuda.max_memory_allocated() - before)
        before = _kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
        for _ in range(1 if way == "denoiser" and frames > WINDOW else CALLS):
            call()
        return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


if __name__ == "__main__":
    main()
