"""The Forge family's guidance: its samplers ask functions of the UNet's patcher what becomes of the predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from motion.hosts.webui.guidance import Guidance

SAMPLERS = ("backend", "backend.sampling.sampling_function"), ("ldm_patched", "ldm_patched.modules.samplers")
"""The family's packages, and where in them the function is that calls the UNet for prompts and negative prompts."""


def guide(unet: Any, guidance: Guidance) -> None:
    """Let ``guidance`` act on what is predicted with the patcher ``unet``, a clone that goes when the pass ends.

    A change of CFG scales is added to what the host, or another extension, has made of the predictions. What is put
    into the patcher are functions: of a bound method it would copy the owner.
    """
    called: dict[str, Any] = {}

    def note(model: Any, x: Any, timestep: Any, uncond: Any, cond: Any, cfg: Any, options: Any, *others: Any) -> Any:
        optimized = math.isclose(cfg, 1.0) and not options.get("disable_cfg1_optimization", False)
        called.update(cfg=cfg, guided=uncond is not None and not optimized)
        return model, x, timestep, uncond, _placed(cond, guidance, x), cfg, options, *others

    def edit(args: Mapping[str, Any]) -> Any:
        return _edited(args, guidance, called["cfg"], called["guided"])

    unet.add_conditioning_modifier(note)
    unet.set_model_sampler_post_cfg_function(edit)


def _edited(args: Mapping[str, Any], guidance: Guidance, cfg: float, guided: bool) -> Tensor:
    """``guided``: the host has asked for the negative prompt; else its prediction is zeros, or nothing."""
    denoised: Tensor = args["denoised"]
    cond, techniques = args["cond_denoised"], guidance.techniques
    by_text = {"cond": cond}
    if guided:
        uncond = args["uncond_denoised"]
        weight = sum(part.get("strength", 1) for part in args["cond"])  # of all that AND joins
        placed = weight if guidance.regions is None else _weights(args["cond"], cond)
        difference = cond - uncond
        by_text = {"cond": cond if placed is weight == 1 else uncond + difference * placed, "uncond": uncond}
        if techniques.have("scales") or guidance.regions is not None:
            scales = torch.tensor(guidance.scales(cfg), device=cond.device)[:, None, None, None]
            denoised = denoised + ((scales - cfg) * placed + cfg * (placed - weight)) * difference
    if not techniques.have("edit"):
        return denoised
    sigma = args["sigma"][:, None, None, None].to(cond)
    return guidance.edit(args["input"], sigma, denoised, by_text, _predict(args))


def _placed(cond: Any, guidance: Guidance, x: Tensor) -> Any:
    """What AND joins, each part with its mask, by whose weights the host averages the parts."""
    if guidance.regions is None:
        return cond
    masks = (guidance.regions.weights(part, x) for part in range(len(cond)))
    pairs = zip(cond, masks, strict=True)
    return [part if mask is None else {**part, "mask": mask[:, 0]} for part, mask in pairs]


def _weights(cond: Any, like: Tensor) -> Tensor:
    """What all parts together count in each place, ``[frames, 1, h, w]``."""
    everywhere = like.new_ones(len(like), *like.shape[2:])
    return sum(part.get("strength", 1) * part.get("mask", everywhere) for part in cond)[:, None]


def _predict(args: Mapping[str, Any]) -> Callable[[str], Tensor]:
    """What calls the UNet once more, for one text."""
    module = import_module(next(name for package, name in SAMPLERS if find_spec(package) is not None))

    def predict(text: str) -> Tensor:
        texts = ([], args["uncond"]) if text == "uncond" else (args["cond"], None)
        called = args["model"], *texts, args["input"], args["sigma"], args["model_options"]
        predicted: Tensor = module.calc_cond_uncond_batch(*called)[text == "uncond"]
        return predicted

    return predict
