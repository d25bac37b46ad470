"""Seconds per UNet step with motion over without, beside diffusers' UNetMotionModel with the same weights.

    python tests/bench/bench_step.py                        the real SD1.5 size: 16 frames, 128 px, float32, CPU
    python tests/bench/bench_step.py --device cuda          the same on a GPU: 512 px, float16, cond and uncond
    python tests/bench/bench_step.py --widths 32 32 64 64   a small one, to see that it runs

The three take turns in every repetition, so that a busy machine bothers all alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.weights.formats.names import to_diffusers

CONTEXT, TOKENS = 768, 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, help="pixels (128; on a GPU 512)")
    parser.add_argument("--groups", type=int, help="clips in the batch (1; on a GPU 2)")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=4, default=[320, 640, 1280, 1280])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    gpu = options.device != "cpu"
    size, groups = options.size or (512 if gpu else 128), options.groups or (2 if gpu else 1)
    dtype = torch.float16 if gpu else torch.float32
    with torch.inference_mode():
        times = measure(steps(options.widths, groups, options.frames, size, options.device, dtype), options.repeats)
    sys.stdout.write(f"{hardware(options.device)}, torch {torch.__version__}, ")
    sys.stdout.write(f"{groups} x {options.frames} frames, {size} px, {dtype}, {options.repeats} repetitions\n\n")
    sys.stdout.write(table(times))


def steps(
    widths: list[int], groups: int, frames: int, size: int, device: str, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """One denoising step by each of the three, as calls without arguments."""
    shape = {"block_out_channels": tuple(widths), "cross_attention_dim": CONTEXT}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape)
        theirs = UNetMotionModel(**shape, use_motion_mid_block=False)
    unet = filled(unet.to(dtype).to_empty(device=device))
    model = filled(MotionModel(Architecture.of_unet("v3", widths)).to(device, dtype))
    theirs.load_state_dict(unet.state_dict() | to_diffusers(model.state_dict()), assign=True)
    theirs.eval()
    x = torch.randn(groups * frames, 4, size // 8, size // 8, device=device, dtype=dtype)
    c = torch.randn(len(x), TOKENS, CONTEXT, device=device, dtype=dtype)
    video = x.unflatten(0, (groups, frames)).transpose(1, 2)

    def ours() -> Tensor:
        with motion.attach(unet, model, frames):
            return unet(x, 500, c).sample

    return {
        "plain batch": lambda: unet(x, 500, c).sample,
        "motion.attach": ours,
        "diffusers UNetMotionModel": lambda: theirs(video, 500, c).sample,
    }


def filled(module: nn.Module) -> nn.Module:
    """``module`` with small random weights, none of them zero."""
    for parameter in module.requires_grad_(False).parameters():
        parameter.uniform_(-0.02, 0.02)
    return module.eval()


def measure(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call in every repetition, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: seconds[1:] for name, seconds in times.items()}


def table(times: dict[str, list[float]]) -> str:
    """Best and median seconds, and each over the plain batch of the same repetitions."""
    plain = next(iter(times.values()))
    rows = ["| | best s | x plain | median s | x plain |", "|---|---|---|---|---|"]
    for name, seconds in times.items():
        best, median = min(seconds), statistics.median(seconds)
        ratios = best / min(plain), statistics.median(a / b for a, b in zip(seconds, plain, strict=True))
        rows.append(f"| {name} | {best:.3f} | {ratios[0]:.3f} | {median:.3f} | {ratios[1]:.3f} |")
    return "\n".join(rows) + "\n"


def hardware(device: str) -> str:
    if device == "cpu":
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(device)


if __name__ == "__main__":
    main()
