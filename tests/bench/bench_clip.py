"""Seconds and peak memory of a whole clip, from the prompt to decoded frames: the standalone host beside diffusers.

    python tests/bench/bench_clip.py --device cuda                      SD1.5 and v3 of real size, 512 px, 25 steps
    python tests/bench/bench_clip.py --size 64 --steps 4 --small        a small model on a CPU, to see that it runs

Random weights, the same for all; diffusers' AnimateDiffPipeline with the same prompt, steps and guidance. They take
turns in each repetition; the first does not count, of the others the best does. ``memory`` is what is allocated at the
peak on a GPU, weights and all; a CPU does not tell, and has one thread, whose own time counts. Fewer than 16 frames are
drawn as 16 by ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, UNet2DConditionModel, UNetMotionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_memory import TEXT, VAE
from bench_step import CONTEXT, TOKENS, filled, hardware

from motion.fields.table import Size
from motion.hosts.standalone import Standalone, samplers
from motion.hosts.standalone.parts import Parts, TextEncoder
from motion.hosts.standalone.text.tokens import clip_tokenizer
from motion.models.motion.architecture import FAMILIES, Architecture
from motion.models.motion.model import MotionModel
from motion.settings.settings import Clip
from motion.weights.formats.names import to_diffusers

REAL, SMALL = (320, 640, 1280, 1280), (32, 32, 64, 64)
CFG, END = 7.5, 49407
MODES = ("off", "balanced", "fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    dtype = torch.float32 if options.device == "cpu" else torch.float16
    if options.device == "cpu":
        torch.set_num_threads(1)
    calls = clips(SMALL if options.small else REAL, torch.device(options.device), dtype, options)
    sys.stdout.write(f"{hardware(options.device)}, torch {torch.__version__}, {options.frames} frames, ")
    sys.stdout.write(f"{options.size} px, {options.steps} steps, {dtype}, {options.repeats} repetitions\n\n")
    sys.stdout.write(table(*measure(calls, options.repeats, options.device != "cpu")))


def clips(
    widths: tuple[int, ...], device: torch.device, dtype: torch.dtype, options: argparse.Namespace
) -> dict[str, Callable[[], object]]:
    """A clip by each of them, as calls without arguments."""
    parts = built(widths, device, dtype)
    host = Standalone(parts, device, dtype)
    model = filled(MotionModel(Architecture.of_unet("v3", widths)).to(device, dtype))
    size = Size(options.size, options.size)
    clip = Clip("a red circle", "grey", cfg=CFG, frames=options.frames, steps=options.steps, size=size, sampler="euler")
    pipe = theirs(parts, model, clip)
    asked = {"num_inference_steps": clip.steps, "num_frames": clip.frames, "guidance_scale": CFG, "output_type": "np"}

    def of_pipe() -> object:
        return pipe(clip.prompt, negative_prompt=clip.negative, height=size.height, width=size.width, **asked).frames

    ours = {mode: lambda mode=mode: host.render(replace(clip, cache=mode, seed=1), model) for mode in MODES}
    return {"diffusers": of_pipe} | {f"ours, cache {mode}": call for mode, call in ours.items()}


def built(widths: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Parts:
    """An image model with random weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=CONTEXT)
        vae = AutoencoderKL(**VAE)
    text = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=END + 1)).to(device, dtype).eval().requires_grad_(False)
    unet, vae = (filled(nn.Module.to(part, dtype).to_empty(device=device)) for part in (unet, vae))
    return Parts("sd15", unet, vae, (TextEncoder(clip_tokenizer(), text, END),))


def theirs(parts: Parts, model: MotionModel, clip: Clip) -> AnimateDiffPipeline:
    """diffusers' pipeline with these weights, which it has for itself."""
    with torch.device("meta"):
        unet = UNetMotionModel(
            block_out_channels=parts.unet.config.block_out_channels,
            cross_attention_dim=CONTEXT,
            use_motion_mid_block=False,
        )
    unet.load_state_dict(parts.unet.state_dict() | to_diffusers(model.state_dict()), assign=True)
    (encoder,) = parts.encoders
    encoder.tokenizer.model_max_length = TOKENS  # its files do not say it
    scheduler = samplers.scheduler(clip.sampler, FAMILIES["v3"].betas, clip.steps)
    pipe = AnimateDiffPipeline(parts.vae, encoder.model, encoder.tokenizer, unet.eval(), None, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def measure(
    calls: Mapping[str, Callable[[], object]], repeats: int, gpu: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """The best seconds of each call, and its peak of bytes."""
    clock = time.perf_counter if gpu else time.process_time
    best = dict.fromkeys(calls, float("inf"))
    peaks = dict.fromkeys(calls, float("nan"))
    for repetition in range(repeats + 1):
        for name, call in calls.items():
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            started = clock()
            call()
            if repetition:
                best[name] = min(best[name], clock() - started)
            if gpu:
                peaks[name] = torch.cuda.max_memory_allocated()
    return best, peaks


def table(seconds: Mapping[str, float], peaks: Mapping[str, float]) -> str:
    rows = ["| | s | times diffusers' speed | memory GB |", "|---|---|---|---|"]
    first = next(iter(seconds.values()))
    rows += [f"| {name} | {s:.2f} | {first / s:.2f} | {peaks[name] / 1e9:.2f} |" for name, s in seconds.items()]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
