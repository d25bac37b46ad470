"""Seconds that the real WebUI takes to come up and to build its page, with this extension and without, in turns.

    SD_WEBUI_DIR=... python tests/bench/bench_page.py
    SD_WEBUI_DIR=... python tests/bench/bench_page.py --repeats 3

The figures are the host's own, from its startup profile; the host is booted anew for each, on a data folder of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.host.support.hosts import Host
from tests.host.support.server import booted

STAGES = ("load scripts", "create ui", "total")
"""What is reported: importing the extensions, building the page, and all of the start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    starts: dict[bool, list[Mapping[str, float]]] = {False: [], True: []}
    for extension in starts:
        start(extension)  # the first one of each compiles what is imported
    for _ in range(options.repeats):
        for extension, seen in starts.items():
            seen.append(start(extension))
    for stage in STAGES:
        report(stage, *([one[stage] for one in seen] for seen in starts.values()))


def start(extension: bool) -> Mapping[str, float]:
    """Boot the host once; seconds by stage."""
    with TemporaryDirectory(prefix="motion-bench-") as folder, booted(Host.all()[0], Path(folder), extension) as server:
        answer = urllib.request.urlopen(f"{server.url}/internal/profile-startup", timeout=60)
        with answer:
            profile = json.load(answer)
    return {**profile["records"], "total": profile["total"]}


def report(stage: str, without: list[float], with_it: list[float]) -> None:
    plain, ours = statistics.median(without), statistics.median(with_it)
    figures = f"without {plain:.3f} s, with {ours:.3f} s, {ours - plain:+.3f} s"
    best = f"best {min(without):.3f} and {min(with_it):.3f}"
    sys.stdout.write(f"{stage}: {figures} (medians of {len(without)}; {best})\n")


if __name__ == "__main__":
    main()
