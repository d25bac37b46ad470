"""A WebUI that this machine has, booted in a process of its own on a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import controls, models, networks
from .hosts import A1111, CONTROLNET, EXTENSIONS, Host
from .models import CHECKPOINT, ROOT

PROBE = Path(__file__).resolve().parents[1] / "probe"
LACKING = "MOTION_PROBE_LACKING"
"""The environment variable that tells the probe what to take out of the host."""
BYTECODE = Path(tempfile.gettempdir()) / "sd-webui-motion-host-bytecode"

GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
BOOT_SECONDS = 600
FLAGS = (
    *("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check"),
    *("--api", "--server-name", "127.0.0.1"),
)
OPTIONS: Mapping[str, object] = {
    "sd_model_checkpoint": f"{CHECKPOINT}.safetensors",
    "show_progress_type": "Approx cheap",  # the default asks for a model that has to be downloaded
    "interrupt_after_current": False,
    **{"batch_cond_uncond": True, "pad_cond_uncond": False, "pad_cond_uncond_v0": False, "skip_early_cond": 0.0},
    **{f"sd_{tab}_{side}": 64 for tab in ("t2i", "i2i") for side in ("width", "height")},  # Forge's page begins with it
    **{"s_min_uncond": 0.0, "s_min_uncond_all": False, "CLIP_stop_at_last_layers": 1, "eta_noise_seed_delta": 0},
    "sd_noise_schedule": "Default",
    "sd_vae_decode_method": "Full",
}
"""The host's settings, among them each that a test overrides: what is not written here, the host never takes back."""
PAGE: Mapping[str, object] = {
    f"{tab}/{side}/value": 64 for tab in ("txt2img", "img2img") for side in ("Width", "Height")
}
"""What the page begins with. Typing a size there makes the host's own script raise an error."""


class BootFailed(Exception):
    """The host did not come up; the text ends with its log."""


@dataclass(frozen=True)
class Server:
    """A running host."""

    host: Host
    url: str
    data: Path
    """Where it keeps all that it writes: settings, models, pictures."""
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def outputs(self) -> set[Path]:
        """The files it has saved."""
        folders = [self.data / name for name in ("outputs", "output")]  # the second is Neo's
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    def log_tail(self, lines: int = 60) -> str:
        """The end of what it said, progress bars left out."""
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([line for line in said if line and "it/s]" not in line and "s/it]" not in line][-lines:])


@contextmanager
def booted(
    host: Host, data: Path, extension: bool = True, lacking: str = "", page: Mapping[str, object] = PAGE
) -> Iterator[Server]:
    """Boot the host on the folder `data`, with the probe and, if wanted, this extension; end it on exit.

    `lacking` is the dotted path of something in it that this host is to be without, `page` what its page begins with.

    Raises BootFailed.
    """
    lay_out(host, data, extension, page)
    log, port = data / "log.txt", _free_port()
    command = [host.python, "-u", "launch.py", *FLAGS, *host.flags, "--port", str(port), "--data-dir", data]
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=host.root, env=_environment(data) | {LACKING: lacking},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = Server(host, f"http://127.0.0.1:{port}", data, log, process)
    with ended_with_us(process):
        _wait(server)
        yield server


def lay_out(host: Host, data: Path, extension: bool, page: Mapping[str, object]) -> None:
    """Give the host its settings, the models and the extensions, all but the settings as links."""
    models.lay_out(data, host.kind.any_width)
    models.lay_out_full(data, config=host.kind.any_width)
    networks.write(data)
    controls.write(data, host.kind.any_width)
    models.link(data / "extensions" / "motion-probe", PROBE)
    if (controlnet := os.environ.get(CONTROLNET)) and host.kind is A1111:
        models.link(data / "extensions" / "sd-webui-controlnet", Path(controlnet).expanduser().absolute())
    if extension:
        models.link(data / "extensions" / "sd-webui-motion", ROOT)
    for other in filter(None, os.environ.get(EXTENSIONS, "").split(os.pathsep)):
        models.link(data / "extensions" / Path(other).name, Path(other).expanduser().absolute())
    (data / "tmp").mkdir()
    decoder = {} if host.kind.any_width else {"sd_vae_decode_method": "TAESD"}
    for name, settings in {"config.json": {**OPTIONS, **decoder}, "ui-config.json": page}.items():
        (data / name).write_text(json.dumps(dict(settings)), encoding="utf-8")


def _environment(data: Path) -> dict[str, str]:
    """Offline; caches in `data`, bytecode in a place of its own that outlives the tests: compiling takes minutes."""
    private = {"HF_HOME": "hf", "XDG_CACHE_HOME": "cache-home", "MPLCONFIGDIR": "mpl", "TMPDIR": "tmp"}
    ours = ("COMMANDLINE_ARGS", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return {
        **environment,
        **{name: str(data / folder) for name, folder in private.items()},
        **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPYCACHEPREFIX": str(BYTECODE),
        "SD_WEBUI_MOTION": str(ROOT),  # the checkpoints' .yaml files look for their tokenizer there
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(server: Server) -> None:
    """Until the log says that it has started (before, the API knows no scripts) and the API answers."""
    end = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise BootFailed(f"the host ended with exit code {server.process.returncode}:\n{server.log_tail()}")
        if "Startup time" in server.log.read_text(encoding="utf-8", errors="replace") and _answers(server.url):
            return
        time.sleep(0.5)
    raise BootFailed(f"the host was not up after {BOOT_SECONDS} seconds:\n{server.log_tail()}")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/sdapi/v1/options", timeout=30):
            return True
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return False


@contextmanager
def ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process that leads a session of its own, and whatever it has started, on exit.

    Also when this one is killed: a guard kills them as soon as nobody holds the other end of its pipe.
    """
    command = [sys.executable, "-c", GUARD, str(process.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            _end(process)
            guard.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the host and whatever it has started."""
    for sign, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 60)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue
