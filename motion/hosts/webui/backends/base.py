"""What the WebUI hosts have in common, and what differs.

Importing this imports nothing of a host: its modules are looked up when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.models.motion.architecture import zero_terminal_snr
from motion.sampling.arrangement import Arrangement

if TYPE_CHECKING:
    from motion.hosts.webui.guidance import Guidance

BASES = {"is_sd1": "sd15", "is_sdxl": "sdxl"}
"""The flags by which every host says what its loaded checkpoint is, and our names for it."""
KNOWN = "AUTOMATIC1111 1.10, Forge, reForge, Forge Classic, Forge Neo or ersatzForge"
"""The hosts that the extension is tested in."""


class Host(Protocol):
    """What differs from host to host while a job samples."""

    def unet(self) -> nn.Module:
        """The UNet of the loaded checkpoint."""

    def put_schedule(self, alphas: Tensor, undo: ExitStack) -> None:
        """Let the host sample by these cumulative alphas, ``[1000]``, until ``undo`` is closed."""

    def before_pass(
        self, p: Any, conditioning: Any, arrangement: Arrangement, beside: Sequence[Tensor], undo: ExitStack
    ) -> None:
        """Called before each pass of sampling, with the host's conditioning of it; ``undo`` is closed after the pass.

        Tells ``arrangement`` how the pass's batches are laid out, and the host's memory manager of the weights that are
        used ``beside`` the UNet's.
        """

    def guide(self, p: Any, guidance: Guidance, undo: ExitStack) -> Callable[[], None]:
        """Let ``guidance`` act on the predictions of the pass that begins, until ``undo`` is closed.

        What is returned is to be called when the host has put another model in place meanwhile.
        """

    def vae(self) -> nn.Module:
        """The net of the loaded VAE."""

    def load_unet(self) -> None:
        """Have the UNet on its device again, when another model may have taken its room within a pass."""

    def memory(self, images: int, width: int, height: int) -> float | None:
        """Bytes that the host's own function expects a call of the UNet to take for so many images; None if it has
        none, or nothing is loaded."""

    def free_memory(self) -> float | None:
        """Bytes that may still be taken where the UNet computes; None where nobody knows."""

    any_width: bool
    """Whether checkpoints narrower than Stable Diffusion's own are loaded, as the bundled ones are."""


def host_module(name: str) -> Any:
    """A module of the host, `modules.<name>`."""
    return import_module(f"modules.{name}")


def option(name: str, default: Any) -> Any:
    """What the host's user has set; ``default`` where the host has no such setting."""
    return getattr(host_module("shared").opts, name, default)


def as_set(alphas: Tensor) -> Tensor:
    """Cumulative alphas, ``[1000]``, as the host's settings and the checkpoint want those of any model: with zero
    terminal SNR, in half precision."""
    model = host_module("shared").sd_model
    if option("use_downcasted_alpha_bar", False):
        alphas = alphas.half().to(alphas)
    asking = any(getattr(holder, "ztsnr", False) for holder in (model, getattr(model, "model_config", None)))
    if asking or option("sd_noise_schedule", "Default") == "Zero Terminal SNR":
        alphas = zero_terminal_snr(alphas)
    return alphas


def put_levels(table: MutableMapping[str, Any], name: str, levels: Tensor, undo: ExitStack) -> None:
    """Let ``levels`` stand in ``table`` for the host's own noise levels.

    Samplers and memory managers move them to another device: what was there comes back whatever is there by then, and
    where that is.
    """
    found: Tensor = table[name]
    table[name] = levels.to(found)
    undo.callback(lambda: table.update({name: found.to(table[name].device)}))


def put_alphas(model: Any, alphas: Tensor, undo: ExitStack, name: str = "alphas_cumprod") -> None:
    """Let samplers find ``alphas`` on the host's model, where it has its own: a buffer, or an attribute (SDXL's)."""
    buffers = vars(model).get("_buffers", {})
    table = buffers if name in buffers else vars(model)
    if name in table:
        put_levels(table, name, alphas, undo)
    else:  # a sampler leaves there what it has made of noise levels elsewhere
        undo.callback(patching.restore_later(table, name))


def on_samplers(change: Callable[[Any], None], undo: ExitStack) -> None:
    """Let each sampler that the host makes be changed so, until ``undo`` is closed."""
    samplers = host_module("sd_samplers")
    create = samplers.create_sampler

    def made(*args: Any, **kwargs: Any) -> Any:
        sampler = create(*args, **kwargs)
        change(sampler)
        return sampler

    undo.callback(patching.item(vars(samplers), "create_sampler", made))


def fresh_noise(like: Tensor, seed: int) -> Tensor:
    """Noise for all frames, float32 in the shape and on the device of ``like``, from one stream of the host's own kind
    of generator."""
    rng = host_module("rng")
    generator = rng.create_generator(seed)
    noise = torch.stack([rng.randn_without_seed(like.shape[1:], generator=generator) for _ in like])
    return noise.to(like.device, torch.float32)


def need(*names: str) -> None:
    """Raise MotionError if the host's package lacks one of the dotted ``names``."""
    absent = [f"modules.{name}" for name in names if not _has(name)]
    if absent:
        raise MotionError(
            f"Motion cannot make this clip here, because this WebUI has no {' and no '.join(absent)}: update the WebUI "
            f"and the extension, or use {KNOWN}"
        )


def _has(name: str) -> bool:
    module, _, attribute = name.partition(".")
    try:
        if attribute:
            attrgetter(attribute)(host_module(module))
    except (ImportError, AttributeError):
        return False
    return True


def loaded_base() -> str | None:
    """What the loaded checkpoint is, "sd15" or "sdxl"; None if none is loaded. Loads nothing.

    Raises MotionError if it is of a kind that has no place for temporal layers.
    """
    model = host_module("sd_models").model_data.sd_model
    flags = [flag for flag in BASES if hasattr(model, flag)]
    if not flags:
        return None  # nothing, or what stands in for a checkpoint until the first job
    for flag in flags:
        if getattr(model, flag):
            return BASES[flag]
    raise MotionError("the loaded checkpoint is neither SD1.5 nor SDXL: choose an SD1.5 or SDXL checkpoint")
