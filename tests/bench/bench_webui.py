"""Seconds of a whole request to the real WebUI, a clip over a plain batch of as many pictures, taken in turns.

    SD_WEBUI_DIR=... python tests/bench/bench_webui.py                  64 and 256 px, 16 frames, 2 steps
    SD_WEBUI_DIR=... python tests/bench/bench_webui.py --sizes 64 --repeats 3

The checkpoint is a random one of SD1.5's full size, the motion module a random v3: what they draw does not matter.
The host is booted on a data folder of its own and ended afterwards; needs 12 GB of memory and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.host.support.hosts import Host
from tests.host.support.models import FULL_CHECKPOINT, FULL_MODULE
from tests.host.support.server import booted

FRAMES, STEPS = 16, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="motion-bench-") as folder:
        data = Path(folder)
        with booted(Host.all()[0], data) as server:
            for size in options.sizes:
                request(server.url, size, clip=True)  # the first request of a size pays for what is made once
                report(size, *measure(server.url, size, options.repeats))


def measure(url: str, size: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of the plain requests and of the clips, one after the other."""
    plain, clips = [], []
    for _ in range(repeats):
        plain.append(request(url, size, clip=False))
        clips.append(request(url, size, clip=True))
    return plain, clips


def request(url: str, size: int, clip: bool) -> float:
    body: dict[str, Any] = {"prompt": "a cat", "seed": 1, "steps": STEPS, "sampler_name": "Euler", "width": size}
    body |= {"height": size, "override_settings": {"sd_model_checkpoint": FULL_CHECKPOINT}}
    body |= {"override_settings_restore_afterwards": False}
    if clip:
        body["alwayson_scripts"] = {"Motion": {"args": [{"module": FULL_MODULE, "frames": FRAMES}]}}
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
