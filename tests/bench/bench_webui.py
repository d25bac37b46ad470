"""Seconds of a whole request to the real WebUI, a clip over a plain batch of as many pictures, taken in turns.

    SD_WEBUI_DIR=... python tests/bench/bench_webui.py                  64 and 256 px, 16 frames, 2 steps
    SD_WEBUI_DIR=... python tests/bench/bench_webui.py --sizes 64 --repeats 3

The checkpoint is a random one of SD1.5's full size, the motion module a random v3: what they draw does not matter.
The host is booted on a data folder of its own and ended afterwards; needs 12 GB of memory and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

from server import Host, booted

from motion.network.architecture import Architecture
from motion.network.model import MotionModel
from motion.training.files import TEXT_FOLDER, save_image_model, save_motion_model
from motion.training.image import ImageModel

TOKENIZER = Path(__file__).parents[2] / "motion" / "hosts" / "data" / "clip"
WIDTHS = (320, 640, 1280, 1280)
FRAMES, STEPS = 16, 2
CHECKPOINT, MODULE = "random-sd15", "random-v3"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="motion-bench-") as folder:
        data = Path(folder)
        write_models(data / "models")
        with booted(Host.find(), data) as server:
            for size in options.sizes:
                request(server.url, size, clip=True)  # the first request of a size pays for what is made once
                report(size, *measure(server.url, size, options.repeats))


def write_models(models: Path) -> None:
    """A random checkpoint under LDM names and a random motion module, no layer of it at zero."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
    checkpoint = models / "Stable-diffusion" / f"{CHECKPOINT}.safetensors"
    save_image_model(ImageModel(unet, vae, text), checkpoint, {})
    # Offline the host needs the text encoder's shape and tokenizer from a folder.
    folder = models / "clip"
    shutil.copytree(TOKENIZER, folder)
    text.config.save_pretrained(folder)
    config = checkpoint.with_suffix(".yaml")
    config.write_text(config.read_text().replace(TEXT_FOLDER, str(folder)))
    module = MotionModel(Architecture.of_unet("v3", WIDTHS))
    for layer in module.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.02)
    save_motion_model(module, models / "motion" / f"{MODULE}.safetensors", {})


def measure(url: str, size: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of the plain requests and of the clips, one after the other."""
    plain, clips = [], []
    for _ in range(repeats):
        plain.append(request(url, size, clip=False))
        clips.append(request(url, size, clip=True))
    return plain, clips


def request(url: str, size: int, clip: bool) -> float:
    body: dict[str, Any] = {"prompt": "a cat", "seed": 1, "steps": STEPS, "sampler_name": "Euler", "width": size}
    body |= {"height": size, "override_settings": {"sd_model_checkpoint": CHECKPOINT}}
    body |= {"override_settings_restore_afterwards": False}
    if clip:
        body["alwayson_scripts"] = {"Motion": {"args": [{"module": MODULE, "frames": FRAMES}]}}
    else:
        body["batch_size"] = FRAMES
    data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
    start = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/sdapi/v1/txt2img", data, kind), timeout=1800) as answer:
        images = len(json.load(answer)["images"])
    assert images == FRAMES + clip, f"{images} pictures came back"  # a clip has a cover
    return time.perf_counter() - start


def report(size: int, plain: list[float], clips: list[float]) -> None:
    ratios = [clip / still for still, clip in zip(plain, clips, strict=True)]
    best = f"plain {min(plain):.2f} s, clip {min(clips):.2f} s, ratio of the best {min(clips) / min(plain):.2f}"
    sys.stdout.write(f"{size} px: {best}, median of pairs {statistics.median(ratios):.2f}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
