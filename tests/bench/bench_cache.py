"""Seconds of a whole sampling with the step cache over those without.

    python tests/bench/bench_cache.py                            the real SD1.5 size: 16 frames, 128 px, 25 steps
    python tests/bench/bench_cache.py --device cuda --size 512   the same on a GPU, in float16
    python tests/bench/bench_cache.py --widths 32 32 64 64       a small one, to see that it runs

Random weights of SD1.5's and v3's size, Euler. The modes take turns at each step; of each step the best of the
repetitions counts, and their sum is the sampling. On a CPU one thread computes, and its own time counts: what else the
machine is busy with doesn't.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_step import CONTEXT, TOKENS, filled, hardware

import motion
from motion.hosts.standalone import samplers
from motion.models.motion.architecture import STABLE_DIFFUSION, Architecture
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.step_cache import CACHES, StepCacheSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--widths", type=int, nargs=4, default=[320, 640, 1280, 1280])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--modes", nargs="*", default=list(CACHES), choices=CACHES, help="rows of the table, off first")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    dtype = torch.float32 if on_cpu else torch.float16
    if on_cpu:
        torch.set_num_threads(1)
    unet, model = parts(options.widths, options.device, dtype)
    with torch.inference_mode():
        runs = [seconds(unet, model, dtype, options) for _ in range(options.repeats)]
    sys.stdout.write(f"{hardware(options.device)}, torch {torch.__version__}, {options.frames} frames, ")
    sys.stdout.write(f"{options.size} px, {options.steps} steps, {dtype}, {options.repeats} repetitions\n\n")
    sys.stdout.write(
        table({mode: [min(each) for each in zip(*(run[mode] for run in runs), strict=True)] for mode in options.modes})
    )


def parts(widths: list[int], device: str, dtype: torch.dtype) -> tuple[nn.Module, MotionModel]:
    """A UNet and a motion module with random weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=tuple(widths), cross_attention_dim=CONTEXT)
    model = MotionModel(Architecture.of_unet("v3", widths)).to(device, dtype)
    return filled(unet.to(dtype).to_empty(device=device)), filled(model)


def seconds(
    unet: nn.Module, model: MotionModel, dtype: torch.dtype, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Of each step, by mode."""
    times: dict[str, list[float]] = {mode: [] for mode in options.modes}
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    with ExitStack() as scopes:
        samplings = {mode: sampling(unet, model, mode, dtype, options, scopes) for mode in options.modes}
        for _ in range(options.steps):
            for mode, steps in samplings.items():
                started = clock()
                next(steps)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                times[mode].append(clock() - started)
    return times


def sampling(
    unet: nn.Module,
    model: MotionModel,
    mode: str,
    dtype: torch.dtype,
    options: argparse.Namespace,
    scopes: ExitStack,
) -> Iterator[None]:
    """A sampling that goes on by a step each time it is asked to, on a UNet of its own with the same weights."""
    own = copy.deepcopy(unet, {id(weight): weight for weight in unet.parameters()})
    arrangement = Arrangement(Windows(options.frames))
    scopes.enter_context(motion.attach(own, model, options.frames, arrangement=arrangement))
    scopes.enter_context(motion.step_cache.attach_by_settings(own, StepCacheSettings(mode), arrangement))
    scheduler = samplers.scheduler("euler", STABLE_DIFFUSION, options.steps)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(options.frames, 4, options.size // 8, options.size // 8, generator=generator)
    text = torch.randn(1, TOKENS, CONTEXT, generator=generator).to(options.device, dtype).expand(len(x), -1, -1)
    x = x.to(options.device) * scheduler.init_noise_sigma
    for number, t in enumerate(scheduler.timesteps):
        arrangement.step_begins(number, options.steps)
        predicted = own(scheduler.scale_model_input(x, t).to(dtype), t, text).sample
        x = scheduler.step(predicted.to(x), t, x).prev_sample
        yield


def table(times: dict[str, list[float]]) -> str:
    """Seconds of the sampling, of a step that is computed whole and of one that is not, and how much faster it is."""
    rows = ["| | sampling s | first step s | third step s | times faster |", "|---|---|---|---|---|"]
    first = sum(next(iter(times.values())))
    for mode, each in times.items():
        rows.append(f"| {mode} | {sum(each):.2f} | {each[0]:.2f} | {each[2]:.2f} | {first / sum(each):.2f} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
