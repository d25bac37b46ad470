"""LoRAs of a WebUI's prompts that do not count the same in all frames.

They are taken out of what the host reads, and attached to its UNet by rows. What such a LoRA does to text encoders the
host does itself, a text of the prompt after the other, as it would for pictures, and of the negative prompt with each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

from motion.errors import MotionError
from motion.fields.curve import short
from motion.hosts.webui.backends.base import host_module, need
from motion.hosts.webui.prompt import name_once
from motion.sampling.lora import Lora, WeightedLora
from motion.settings.lora_tags import KINDS, LoraTag, has_curve, tag_texts, without_tags
from motion.settings.prompt_keys import travels
from motion.settings.prompts import frame_loras
from motion.settings.settings import Movement

HIRES = "hr_"
"""What the names of hires fix's own prompts begin with."""


def asked(p: Any) -> dict[str, str]:
    """The prompt of a batch that begins, before the host has taken LoRAs out of it, and that of hires fix; by what the
    names of their attributes begin with."""
    found = {"": p.prompts[0]} if getattr(p, "prompts", None) else {}
    if getattr(p, "enable_hr", False):
        found[HIRES] = p.all_hr_prompts[p.iteration * p.batch_size]
    return found


def take(p: Any, prompts: Mapping[str, str], clip: Movement, find: Callable[[str], Lora]) -> list[WeightedLora]:
    """The LoRAs of the ``prompts`` that were `asked` for which count differently in the frames of the ``clip``, with
    their weights; the host, which has read its networks, is left the others, each once.

    Of the tags those stay in the host's prompts that `Travel` has to heed. ``find`` opens what is called by a name.
    Raises MotionError for tags that cannot be followed, files that cannot be used so, and where hires fix is to have
    other weights.
    """
    taken = {pass_: _of_pass(p, pass_, text, clip) for pass_, text in prompts.items()}
    if HIRES in taken and taken[HIRES] != taken[""]:
        raise MotionError(
            "the prompt of hires fix gives LoRAs other weights in its lines than the prompt does: give both the same, "
            "or leave that of hires fix empty"
        )
    found: list[WeightedLora] = [(find(name), weight) for name, weight in taken.get("", {}).items()]
    heeded = {name for name, (lora, _) in zip(taken.get("", {}), found, strict=True) if lora.tells_text}
    for pass_, text in prompts.items() if found else ():
        left = getattr(p, f"{pass_}prompts")
        setattr(p, f"{pass_}prompts", [without_tags(text, but=heeded)] * len(left))
    return found


def _of_pass(p: Any, pass_: str, text: str, clip: Movement) -> dict[str, str]:
    """The curves of the names in a pass's prompt; they are taken from its networks."""
    networks: MutableMapping[str, Any] = getattr(p, f"{pass_}extra_network_data", None) or {}
    if networks and travels(text, clip.frames):
        name_once(networks)
    weights, tags = frame_loras(text, clip.frames, clip.loop == "closed"), tag_texts(text)
    for kind in networks.keys() & set(KINDS):
        left = []
        for parameters in networks[kind]:
            name = str(parameters.items[0])
            weight = weights.get(name)
            if isinstance(weight, float) and has_curve(tags[name]):
                left.append(type(parameters)(items=[name, short(weight)]))
            elif not isinstance(weight, str):
                left.append(parameters)
        networks[kind] = left
    return {name: weight for name, weight in weights.items() if isinstance(weight, str)}


@contextmanager
def named_in_text(p: Any, networks: Any, tags: Sequence[LoraTag]) -> Iterator[Any]:
    """Within the scope the host's text encoders are changed by the LoRAs of these ``tags``, beside the ``networks`` of
    the batch. It is given what the host tells the conditions by that it keeps."""
    if not tags:
        yield networks
        return
    need("extra_networks.lookup_extra_networks", "extra_networks.ExtraNetworkParams")
    params = host_module("extra_networks").ExtraNetworkParams
    named = [params(items=[tag.name, f"te={tag.text}", "unet=0"]) for tag in tags]
    together = {**networks, KINDS[0]: [*networks.get(KINDS[0], ()), *named]}
    try:
        _activate(p, together)
        yield together
    finally:
        _activate(p, networks)


def _activate(p: Any, networks: Any) -> None:
    """Let the host's own LoRAs be these, as it does for each batch; other networks stay."""
    extra_networks, prompts = host_module("extra_networks"), p.all_prompts
    lora = extra_networks.extra_network_registry.get(KINDS[0])
    if lora is None:
        raise MotionError("this WebUI has no LoRAs of its own: take those out that change the text encoder")
    lora.activate(p, extra_networks.lookup_extra_networks(networks).get(lora, []))
    p.all_prompts = prompts  # a LoRA that its settings add is written there each time
    model = host_module("shared").sd_model
    if hasattr(model, "forge_objects_after_applying_lora"):
        model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()
