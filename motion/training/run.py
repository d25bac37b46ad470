"""What the recipes on a folder of clips have in common: their settings, their data, the loss of a step, samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import processes
from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.device import DTYPES
from motion.hosts.standalone.host import Standalone
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.parts import Parts
from motion.models.motion.architecture import SCHEDULES, Architecture, Betas
from motion.models.motion.model import MotionModel
from motion.settings.settings import Clip
from motion.training.folder import Clips, Source, encode_clips, find
from motion.training.image import TEXT_DROP, Draw, Loss, Noised, debias_weights, noise_loss
from motion.training.loop import Plan, train
from motion.training.motion_module import draw_times
from motion.training.moves import MOVES, make_moves
from motion.video.write import write
from motion.weights.formats.lora import TRIGGER

SAMPLE_STEPS = 20


@dataclass(frozen=True)
class Run:
    """What the recipes have in common. `size` is width and height; `stride` is the distance of a clip's frames.

    `adapter` is a domain adapter that stays on while the motion is learned; `precision` ("bf16", "fp16") computes in
    halves where that is safe, `checkpointing` computes layers twice for memory's sake; `debias` draws more of the
    noisiest time steps and weighs losses by `debiased`; `move` makes the clips out of what is in `data`; after each
    `sample_every` steps (0: never) the first caption is drawn into the folder ``samples``.
    """

    checkpoint: Path
    data: Path
    out: Path
    device: str = "cpu"
    size: tuple[int, int] = (256, 256)
    frames: int = 16
    stride: int = 4
    batch: int = 4
    rank: int | None = None
    module: Path | None = None
    adapter: Path | None = None
    trigger: str = ""
    move: str | None = None
    precision: str = "fp32"
    checkpointing: bool = False
    debias: bool = False
    sample_every: int = 0

    def __post_init__(self) -> None:
        if self.out.resolve() == self.data.resolve():
            raise MotionError(
                f"{self.out} is the data itself: give the run a folder of its own, such as {self.out / 'run'}"
            )
        if self.move is not None and self.move not in MOVES:
            raise MotionError(f"move is {self.move}: choose one of {', '.join(MOVES)}")
        if any(side < 64 or side % 8 for side in self.size):
            raise MotionError(f"size is {self.size[0]}x{self.size[1]}: give multiples of 8 from 64 on")
        if self.precision not in DTYPES:
            raise MotionError(f"precision is {self.precision}: choose one of {', '.join(DTYPES)}")
        if self.precision == "fp16" and not self.device.startswith("cuda"):
            raise MotionError(f"precision is fp16 on {self.device}, where it is slow and coarse: take bf16, or a GPU")


@dataclass(frozen=True)
class Data:
    """The frozen image model, its UNet on the device; the clips, where they are from and encoded; their hash."""

    parts: Parts
    sources: Sequence[Source]
    clips: Clips
    digest: str


def prepare(run: Run, clip: Source | None = None) -> Data:
    """Open and read all that a run learns from: what is in its folder, or of one ``clip`` the frames from its first
    one on. Raises MotionError naming what cannot be used."""
    team = processes.team(run.device)
    parts = open_parts(run.checkpoint)
    if parts.base != "sd15":
        raise MotionError(f"{run.checkpoint} is an SDXL checkpoint: these recipes are SD1.5's")
    if parts.parameterization.prediction != "epsilon":
        raise MotionError(f"{run.checkpoint} is a v-prediction checkpoint: these recipes need one that predicts noise")
    if parts.inpaints:
        raise MotionError(f"{run.checkpoint} is an inpainting checkpoint: these recipes need a text-to-image one")
    for model in (parts.unet, *_others(parts)):
        nn.Module.to(model.eval().requires_grad_(False), run.device, torch.float32)
    sources, most = (find(run.data, run.trigger), None) if clip is None else ([clip], (run.frames - 1) * run.stride + 1)
    stride = run.stride
    with team.main_process_first():  # the others find what it has encoded
        if run.move is not None:
            sources, stride = make_moves(sources, run.move, run.out / "moves", run.frames, run.size), 1
        clips = encode_clips(parts, sources, cache(run), run.size, run.frames, stride, most)
    _move(_others(parts), "cpu")
    if run.checkpointing:
        parts.unet.enable_gradient_checkpointing()
    return Data(parts, sources, clips, digest(sources))


def cache(run: Run) -> Path:
    """Where a run keeps what it has encoded."""
    return run.out / "latents"


def digest(sources: Sequence[Source]) -> str:
    """A hash of all that is learned from `sources`."""
    return hashlib.sha256("".join(source.digest() for source in sources).encode()).hexdigest()


def open_module(run: Run, parts: Parts) -> MotionModel:
    """The run's motion module, frozen, or a new one in v3's layout."""
    if run.module is not None:
        return motion.load(run.module).float().to(run.device)
    config = parts.unet.config
    architecture = Architecture.of_unet("v3", config.block_out_channels, config.layers_per_block)
    return MotionModel(architecture).to(run.device)


def attach(scope: ExitStack, run: Run, parts: Parts, module: MotionModel) -> None:
    """Let the UNet move, in the look of the run's adapter."""
    scope.enter_context(motion.attach(parts.unet, module, run.frames))
    if run.adapter is not None:
        adapter = motion.lora.load(run.adapter, "image")
        scope.enter_context(motion.lora.attach(parts.unet, module, [(adapter, 1.0)]))


def draw_clips(run: Run, data: Data) -> Draw:
    """A batch of the run's clips and what they are told."""
    return lambda rng: data.clips.clips(rng, run.batch, TEXT_DROP)


def noise_loss_of(run: Run, unet: nn.Module, betas: Betas) -> Loss:
    """The loss of latents ``[n, frames, 4, h, w]`` with contexts ``[n, tokens, width]``: one time step for each clip,
    fresh noise in each frame."""
    alphas = betas.alphas_cumprod().float()
    draw, weight = (draw_times, debias_weights) if run.debias else (_uniform, torch.ones_like)

    def loss_of(rng: np.random.Generator, latents: Tensor, contexts: Tensor) -> Tensor:
        frames = latents.shape[1]
        latents = rearrange(latents, "n f c h w -> (n f) c h w")
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        times = torch.from_numpy(draw(rng, len(contexts), len(alphas))).repeat_interleave(frames)
        drawn = (part.to(run.device) for part in (latents, noise, times, alphas[times]))
        contexts = contexts.repeat_interleave(frames, dim=0).to(run.device)
        half = DTYPES[run.precision] if run.precision != "fp32" else None
        with torch.autocast(torch.device(run.device).type, half, enabled=half is not None):
            return noise_loss(unet, Noised(*drawn), contexts, weight)

    return loss_of


def _uniform(rng: np.random.Generator, count: int, steps: int) -> npt.NDArray[np.int64]:
    return rng.integers(0, steps, count)


def learn(
    name: str, module: nn.Module, loss_of: Callable[[int], Tensor], plan: Plan, run: Run, sample: Callable[[int], None]
) -> None:
    """`train` as the run asks for it."""
    train(name, module, loss_of, replace(plan, scaled=run.precision == "fp16"), run.out, sample)


def sampler(run: Run, data: Data, betas: Betas, networks: Networks | None = None) -> Callable[[int], None]:
    """What draws the first caption, now and then, with `networks` and whatever is attached to the UNet."""
    others = _others(data.parts)
    schedule = next(name for name, known in SCHEDULES.items() if known == betas)
    prompt = data.sources[0].caption
    clip = Clip(prompt, steps=SAMPLE_STEPS, seed=0, size=Size(*run.size), frames=run.frames, betas=schedule)

    def sample(done: int) -> None:
        if run.sample_every == 0 or done % run.sample_every:
            return
        _move(others, run.device)
        host = Standalone(data.parts, torch.device(run.device), torch.float32)
        frames = host.render(clip, networks)
        _move(others, "cpu")
        folder = run.out / "samples"
        folder.mkdir(exist_ok=True)
        write(frames, folder / f"{done:06}.{'gif' if len(frames) > 1 else 'png'}", clip.fps)

    return sample


def metadata(recipe: str, run: Run, plan: Plan, data: str, **more: object) -> dict[str, str]:
    """What a file says of how it was made; `data` is the hash of what it learned from."""
    facts = {
        "recipe": recipe,
        "data": data,
        "seed": plan.seed,
        "steps": plan.steps,
        "frames": run.frames,
        "move": run.move,
        **more,
    }
    told = {f"motion.{key}": str(value) for key, value in facts.items() if value is not None}
    return told | ({TRIGGER: run.trigger} if run.trigger else {})


def _others(parts: Parts) -> tuple[nn.Module, ...]:
    return (parts.vae, *(encoder.model for encoder in parts.encoders))


def _move(models: Sequence[nn.Module], device: str) -> None:
    for model in models:
        nn.Module.to(model, device)
