"""AnimateDiff's three recipes on a folder of clips: domain adapter, motion module, motion LoRA.

Source: Guo et al. 2023 (arXiv:2307.04725), section 4, and the authors' training configuration. All learn to predict the
noise by its mean squared error; a clip has one time step and fresh noise in each frame. Nothing is mirrored: that
would undo what a motion LoRA is to learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.fields import Size
from motion.hosts.standalone.checkpoint import Parts, open_parts
from motion.hosts.standalone.host import Standalone
from motion.network.architecture import SCHEDULES, Architecture, Betas
from motion.network.model import MotionModel
from motion.settings import Clip
from motion.training.files import save_motion_model
from motion.training.folder import Clips, Source, encoded, find
from motion.training.image import IMAGE_BETAS, TEXT_DROP, Noised, noise_loss
from motion.training.loop import Plan, train
from motion.training.lora import LoraWeights, adapter_layers, motion_layers, save_lora
from motion.training.moves import MOVES, synthesised
from motion.video.write import write
from motion.weights.checkpoint import FAMILY_HINT
from motion.weights.lora import TRIGGER

ADAPTER = Plan(4000, 1e-4, weight_decay=1e-2, accumulate=4)
MODULE = Plan(20000, 1e-4, weight_decay=1e-2)
MOTION_LORA = Plan(2000, 1e-4, weight_decay=1e-2)
"""Learning rates of the authors' configuration, lengths of a fine-tuning."""
ADAPTER_RANK, MOTION_RANK = 128, 64
"""Those of the published files."""
SAMPLE_STEPS = 20


@dataclass(frozen=True)
class Run:
    """What the recipes have in common. `size` is width and height; `stride` is the distance of a clip's frames.

    `adapter` is a domain adapter that stays on while the motion is learned; `half` computes in bfloat16 where that
    is safe, `checkpointing` computes layers twice for memory's sake; `move` makes the clips out of what is in `data`;
    after each `sample_every` steps (0: never) the first caption is drawn into the folder ``samples``.
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
    half: bool = False
    checkpointing: bool = False
    sample_every: int = 0

    def __post_init__(self) -> None:
        if self.move is not None and self.move not in MOVES:
            raise MotionError(f"move is {self.move}: choose one of {', '.join(MOVES)}")
        if any(side < 64 or side % 8 for side in self.size):
            raise MotionError(f"size is {self.size[0]}x{self.size[1]}: give multiples of 8 from 64 on")


def train_adapter(run: Run, plan: Plan = ADAPTER) -> Path:
    """A LoRA of the image model's attention that takes the look of the clips' frames upon itself; a file's path."""
    run = replace(run, frames=1)
    data = _prepare(run)
    unet = data.parts.unet
    torch.manual_seed(plan.seed)
    weights = LoraWeights(adapter_layers(unet), "image", run.rank or ADAPTER_RANK).to(run.device)

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        latents, contexts = data.clips.stills(rng, run.batch, TEXT_DROP)
        return latents[:, None], contexts

    with motion.lora.attach(unet, None, [(weights.lora, 1.0)]):
        train("adapter", weights, _loss(run, unet, draw, IMAGE_BETAS), plan, run.out, _sampler(run, data, IMAGE_BETAS))
    return save_lora(weights, run.out / "adapter.safetensors", _metadata("adapter", run, plan, data))


def train_motion_module(run: Run, plan: Plan = MODULE) -> Path:
    """Every temporal layer, from `run.module` on or from nothing (v3's layout); a file's path."""
    data = _prepare(run)
    torch.manual_seed(plan.seed)
    module = _module(run, data.parts).train().requires_grad_(True)
    betas = module.architecture.family.betas
    with ExitStack() as scope:
        _attach(scope, run, data.parts, module)
        loss_of = _loss(run, data.parts.unet, _clips(run, data), betas)
        train("motion", module, loss_of, plan, run.out, _sampler(run, data, betas))
    return save_motion_model(module, run.out / "motion.safetensors", _metadata("motion", run, plan, data))


def train_motion_lora(run: Run, plan: Plan = MOTION_LORA) -> Path:
    """A LoRA of the temporal attention of `run.module`; a file's path."""
    if run.module is None:
        raise MotionError("a motion LoRA is trained on a motion module: give one with --motion")
    data = _prepare(run)
    unet, module = data.parts.unet, _module(run, data.parts)
    family = module.architecture.family
    torch.manual_seed(plan.seed)
    weights = LoraWeights(motion_layers(module), "motion", run.rank or MOTION_RANK).to(run.device)
    loss_of = _loss(run, unet, _clips(run, data), family.betas)
    with ExitStack() as scope:
        _attach(scope, run, data.parts, module)
        worn = scope.enter_context(ExitStack())

        def step(seed: int) -> Tensor:
            worn.close()  # only now: the backward pass may compute layers a second time
            worn.enter_context(motion.lora.attach(unet, module, [(weights.lora, 1.0)]))
            return loss_of(seed)

        train("motion-lora", weights, step, plan, run.out, _sampler(run, data, family.betas))
    facts = {FAMILY_HINT: family.name, **_metadata("motion-lora", run, plan, data)}
    return save_lora(weights, run.out / "motion-lora.safetensors", facts)


Draw = Callable[[np.random.Generator], tuple[Tensor, Tensor]]


def _clips(run: Run, data: Data) -> Draw:
    return lambda rng: data.clips.clips(rng, run.batch, TEXT_DROP)


def _loss(run: Run, unet: nn.Module, draw: Draw, betas: Betas) -> Callable[[int], Tensor]:
    """The loss of a step; what is drawn are latents ``[n, frames, 4, h, w]`` and contexts ``[n, tokens, width]``."""
    alphas = betas.alphas_cumprod().float()

    def loss_of(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        latents, contexts = draw(rng)
        frames = latents.shape[1]
        latents = rearrange(latents, "n f c h w -> (n f) c h w")
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        times = torch.from_numpy(rng.integers(0, len(alphas), len(contexts))).repeat_interleave(frames)
        drawn = (part.to(run.device) for part in (latents, noise, times, alphas[times]))
        contexts = contexts.repeat_interleave(frames, dim=0).to(run.device)
        with torch.autocast(torch.device(run.device).type, torch.bfloat16, enabled=run.half):
            return noise_loss(unet, Noised(*drawn), contexts, torch.ones_like)

    return loss_of


@dataclass(frozen=True)
class Data:
    """The frozen image model, its UNet on the device; the encoded clips, one of their captions, and their hash."""

    parts: Parts
    clips: Clips
    caption: str
    digest: str


def _prepare(run: Run) -> Data:
    parts = open_parts(run.checkpoint)
    if parts.base != "sd15":
        raise MotionError(f"{run.checkpoint} is an SDXL checkpoint: these recipes are SD1.5's")
    others = (parts.vae, *(encoder.model for encoder in parts.encoders))
    for model in (parts.unet, *others):
        nn.Module.to(model.eval().requires_grad_(False), run.device, torch.float32)
    sources = find(run.data, run.trigger)
    stride = run.stride
    if run.move is not None:
        sources, stride = synthesised(sources, run.move, run.out / "moves", run.frames, run.size), 1
    clips = encoded(parts, sources, run.out / "latents", run.size, run.frames, stride)
    _move(others, "cpu")
    if run.checkpointing:
        parts.unet.enable_gradient_checkpointing()
    return Data(parts, clips, sources[0].caption, _digest(sources))


def _move(models: Sequence[nn.Module], device: str) -> None:
    for model in models:
        nn.Module.to(model, device)


def _sampler(run: Run, data: Data, betas: Betas) -> Callable[[int], None]:
    """What draws the caption, now and then, with whatever is attached to the UNet."""
    others = (data.parts.vae, *(encoder.model for encoder in data.parts.encoders))
    schedule = next(name for name, known in SCHEDULES.items() if known == betas)
    clip = Clip(data.caption, steps=SAMPLE_STEPS, seed=0, size=Size(*run.size), frames=run.frames, betas=schedule)

    def sample(done: int) -> None:
        if run.sample_every == 0 or done % run.sample_every:
            return
        _move(others, run.device)
        frames = Standalone(data.parts, torch.device(run.device), torch.float32).render(clip)
        _move(others, "cpu")
        folder = run.out / "samples"
        folder.mkdir(exist_ok=True)
        write(frames, folder / f"{done:06}.{'gif' if len(frames) > 1 else 'png'}", clip.fps)

    return sample


def _digest(sources: Sequence[Source]) -> str:
    return hashlib.sha256("".join(source.digest() for source in sources).encode()).hexdigest()


def _module(run: Run, parts: Parts) -> MotionModel:
    if run.module is not None:
        return motion.load(run.module).float().to(run.device)
    config = parts.unet.config
    architecture = Architecture.of_unet("v3", config.block_out_channels, config.layers_per_block)
    return MotionModel(architecture).to(run.device)


def _attach(scope: ExitStack, run: Run, parts: Parts, module: MotionModel) -> None:
    scope.enter_context(motion.attach(parts.unet, module, run.frames))
    if run.adapter is not None:
        adapter = motion.lora.load(run.adapter, "image")
        scope.enter_context(motion.lora.attach(parts.unet, module, [(adapter, 1.0)]))


def _metadata(recipe: str, run: Run, plan: Plan, data: Data) -> dict[str, str]:
    facts = {
        "recipe": recipe,
        "data": data.digest,
        "seed": plan.seed,
        "steps": plan.steps,
        "frames": run.frames,
        "move": run.move,
    }
    told = {f"motion.{key}": str(value) for key, value in facts.items() if value is not None}
    return told | ({TRIGGER: run.trigger} if run.trigger else {})
