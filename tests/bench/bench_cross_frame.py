"""What cross-frame attention costs: seconds of a UNet step over a plain batch's, and floating-point operations.

    python tests/bench/bench_cross_frame.py                        SD1.5's size: 16 frames, 128 px, float32, CPU
    python tests/bench/bench_cross_frame.py --device cuda          the same on a GPU: 512 px, float16, and peak memory
    python tests/bench/bench_cross_frame.py --widths 32 32 64 64   a small one, to see that it runs

The modes take turns in every repetition. Operations are counted at 512 px, and bytes beside the weights at the size
that is timed, on tensors without data and as by attention that keeps no matrix.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from tests.bench.bench_memory import Allocations, without_matrix
from tests.bench.bench_step import CONTEXT, TOKENS, filled, hardware, measure, table

MODES = (None, "first", "sparse-causal", "pair", "full", "style-aligned")
COUNTED_AT = 512
"""Pixels at which operations are counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, help="pixels (128; on a GPU 512)")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=4, default=[320, 640, 1280, 1280])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    gpu = options.device != "cpu"
    size, dtype = options.size or (512 if gpu else 128), torch.float16 if gpu else torch.float32
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=tuple(options.widths), cross_attention_dim=CONTEXT).eval()
    counted = {mode: operations(unet, mode, options.frames) for mode in MODES}
    bytes_of = {mode: most(unet, mode, options.frames, size) for mode in MODES}
    unet = filled(unet.to(dtype).to_empty(device=options.device))
    inputs = batch(options.frames, size, options.device, dtype)
    calls = {mode or "plain batch": partial(step, unet, mode, options.frames, inputs) for mode in MODES}
    with torch.inference_mode():
        times = measure(calls, options.repeats)
        memory = {name: peak(call) for name, call in calls.items()} if gpu else {}
    sys.stdout.write(f"{hardware(options.device)}, torch {torch.__version__}, ")
    sys.stdout.write(f"{options.frames} frames, {size} px, {dtype}, {options.repeats} repetitions\n\n{table(times)}\n")
    for mode, count in counted.items():
        line = f"{mode or 'plain batch'}: {count / 1e12:.2f} T operations at {COUNTED_AT} px"
        line += f", {count / counted[None]:.3f} x plain; {bytes_of[mode] / 1e6:.0f} MB of float32 tensors"
        sys.stdout.write(f"{line}, {bytes_of[mode] / bytes_of[None]:.3f} x plain\n")
    for name, most in memory.items():
        sys.stdout.write(f"{name}: {most / 2**30:.2f} GiB at most\n")


def attached(unet: nn.Module, mode: str | None, frames: int) -> AbstractContextManager[None]:
    return nullcontext() if mode is None else motion.cross_frame.attach(unet, frames, mode)


def batch(frames: int, size: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = torch.randn(frames, 4, size // 8, size // 8, device=device, dtype=dtype)
    return x, torch.randn(frames, TOKENS, CONTEXT, device=device, dtype=dtype)


def step(unet: nn.Module, mode: str | None, frames: int, inputs: tuple[Tensor, Tensor]) -> Tensor:
    x, text = inputs
    with attached(unet, mode, frames):
        return unet(x, 500, text).sample


def operations(unet: nn.Module, mode: str | None, frames: int) -> int:
    x, text = batch(frames, COUNTED_AT, "meta", torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), attached(unet, mode, frames):
        unet(x, torch.full((frames,), 500, device="meta"), text)
    return counter.get_total_flops()


def most(unet: nn.Module, mode: str | None, frames: int, size: int) -> int:
    """Bytes of tensors at the peak of a call."""
    with Allocations() as found, patch("torch.nn.functional.scaled_dot_product_attention", without_matrix):
        inputs = batch(frames, size, "meta", torch.float32)
        with torch.no_grad(), attached(unet, mode, frames):
            return found.peak(lambda: unet(inputs[0], torch.full((frames,), 500, device="meta"), inputs[1]))


def peak(call: partial[Tensor]) -> int:
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
