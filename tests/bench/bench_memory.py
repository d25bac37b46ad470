"""Bytes of tensors at the peak of a clip of real SD1.5 size in float16, counted on "meta", where nothing is computed.

    python tests/bench/bench_memory.py                   16 frames of 512 px, v3, prompt and negative prompt together

``UNet``: all that is there while it works; ``decoding``: while the VAE makes frames of its latents. Attention counts as
by kernels that keep no matrix of it, which CUDA has. An allocator's gaps and CUDA's own memory come on top.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.hosts.memory import SPARING_ROWS
from motion.hosts.standalone.vae import frames_at_once
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import copied
from motion.sampling.windows import Windows
from tests.bench.bench_step import CONTEXT, TOKENS

WIDTHS = (320, 640, 1280, 1280)
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, **BLOCKS}
TEXT = {"hidden_size": CONTEXT, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
MODES: dict[str, tuple[int | None, torch.dtype | None]] = {
    "usual": (None, None),
    "low memory": (SPARING_ROWS, None),
    "low memory, fp8": (SPARING_ROWS, torch.float8_e4m3fn),
}
"""Frames that a spatial layer takes at a time (None: all), and what matrices are stored in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=16)
    options = parser.parse_args()
    torch.nn.functional.scaled_dot_product_attention = without_matrix
    sys.stdout.write(f"torch {torch.__version__}, {options.frames} frames, {options.size} px, float16\n\n")
    sys.stdout.write("| | UNet GB | decoding GB |\n|---|---|---|\n")
    for mode, (rows, stored) in MODES.items():
        with torch.no_grad():
            found = [f"{size / 1e9:.2f}" for size in peaks(rows, stored, options.size, options.frames)]
        sys.stdout.write(f"| {mode} | {' | '.join(found)} |\n")


def peaks(rows: int | None, stored: torch.dtype | None, size: int, frames: int) -> tuple[int, int]:
    """Bytes at the peak while the UNet works, and while frames are decoded."""
    with Allocations() as found:
        unet = built(lambda: UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=CONTEXT))
        if stored is not None:
            unet.enable_layerwise_casting(stored, torch.float16)
        beside = [] if rows else others()
        x = torch.empty(2 * frames, 4, size // 8, size // 8, device="meta", dtype=torch.float16)
        context = torch.empty(len(x), TOKENS, CONTEXT, device="meta", dtype=torch.float16)
        model = built(lambda: MotionModel(Architecture.of_unet("v3", WIDTHS)))
        model = copied(model, x.device, x.dtype, stored)
        with motion.attach(unet, model, frames, arrangement=Arrangement(Windows(frames), rows_at_once=rows)):
            step = found.peak(lambda: unet(x, 500, context))
        del model
        vae, _ = beside or others()
        return step, found.peak(lambda: vae.decode(x[: 1 if rows else frames_at_once(size, size)]))


def others() -> list[Any]:
    """The VAE and the text encoder."""
    return [built(lambda: AutoencoderKL(**VAE)), built(lambda: CLIPTextModel(CLIPTextConfig(**TEXT)))]


def built(make: Callable[[], nn.Module]) -> Any:
    with torch.device("meta"):
        return nn.Module.to(make(), "meta", torch.float16).eval()  # position tables are made on the CPU


def without_matrix(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """Attention of which the result alone is kept, laid out as CUDA's kernels do it."""
    groups, heads, places, _ = query.shape
    return value.new_empty(groups, places, heads, value.shape[-1]).transpose(1, 2)


class Allocations(TorchDispatchMode):
    """The bytes of all that calls make and that is still there, and the most that there have been."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        made = call(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage())._cdata not in given:
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.sizes.values()))
        return made

    def peak(self, call: Callable[[], object]) -> int:
        """The most bytes that there are while a call runs."""
        self.most = 0
        call()
        return self.most


if __name__ == "__main__":
    main()
