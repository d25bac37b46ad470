"""AUTOMATIC1111's guidance: where its denoiser combines the predictions for prompt and negative prompt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from motion import patching
from motion.hosts.webui.backends.base import host_module
from motion.hosts.webui.guidance import Guidance, level

Prompts = Sequence[Sequence[tuple[int, Any]]]
"""Of each frame the rows of its prompts among the predictions, with their weights: numbers, or ``[1, h, w]`` where a
part counts in some places only."""


def guide(denoiser: Any, guidance: Guidance, undo: ExitStack) -> None:
    """Let ``guidance`` act on what ``denoiser`` predicts, until ``undo`` is closed."""
    combination = _Combination(denoiser, guidance)
    undo.callback(patching.before(denoiser, combination.begin, with_kwargs=True))
    undo.callback(patching.before(denoiser.inner_model, combination.count))
    undo.callback(patching.item(vars(denoiser), "combine_denoised", combination))


class _Combination:
    """Stands in for the method ``combine_denoised`` of one denoiser."""

    def __init__(self, denoiser: Any, guidance: Guidance) -> None:
        self.denoiser, self.guidance = denoiser, guidance
        self.original = denoiser.combine_denoised
        self.signature = inspect.signature(denoiser.forward)
        self.asked: dict[str, Any] = {}
        """What the denoiser is called with."""
        self.predicted = 0
        """Rows that the network has predicted in this call."""

    def begin(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.asked, self.predicted = self.signature.bind(*args, **kwargs).arguments, 0

    def count(self, _: Any, args: tuple[Any, ...]) -> None:
        self.predicted += len(args[0])

    def __call__(self, x_out: Tensor, prompts: Prompts, uncond: Any, cond_scale: float) -> Tensor:
        """Where the host has left the negative prompt out, the last rows are copies of the prompt's."""
        guidance, frames = self.guidance, len(prompts)
        prompts = self._placed(prompts, x_out)
        guided = self.predicted in (0, len(x_out))
        if guided and guidance.techniques.have("scales"):
            by_frame = zip(prompts, guidance.scales(self.asked["cond_scale"]), strict=True)
            reduced = self.denoiser.cond_scale_miltiplier  # the host's spelling; CFG++ has other scales
            weighted = [[(row, weight * (scale * reduced)) for row, weight in mine] for mine, scale in by_frame]
            combined: Tensor = self.original(x_out, weighted, uncond, 1.0)
        else:
            combined = self.original(x_out, prompts, uncond, cond_scale)
        if not guidance.techniques.have("edit"):
            return combined
        units = _Units(self.denoiser, self.asked["x"], self.asked["sigma"])
        by_text = {"cond": units.clean(self.original(x_out, prompts, uncond, 1.0))}
        if guided:
            by_text["uncond"] = units.clean(x_out[-frames:])

        def predict(text: str) -> Tensor:
            return units.clean(self._predict(text, uncond))

        return units.back(guidance.edit(units.x, units.sigma, units.clean(combined), by_text, predict))

    def _placed(self, prompts: Prompts, x_out: Tensor) -> Prompts:
        """The prompts with their weights by place."""
        if (regions := self.guidance.regions) is None:
            return prompts
        like = x_out[-len(prompts) :]
        masks = [regions.weights(part, like) for part in range(max(map(len, prompts)))]

        def placed(frame: int, weight: float, mask: Tensor | None) -> Any:
            return weight if mask is None else weight * mask[frame]

        return [
            [(row, placed(frame, weight, mask)) for (row, weight), mask in zip(mine, masks, strict=False)]
            for frame, mine in enumerate(prompts)
        ]

    def _predict(self, text: str, uncond: Any) -> Tensor:
        """What the network predicts for that text alone, as the host's own calls do."""
        x, sigma, image, arrangement = *(self.asked[n] for n in ("x", "sigma", "image_cond")), self.guidance.arrangement
        if text == "uncond":
            before, arrangement.prompts = arrangement.prompts, 1
            try:
                return self._call(x, sigma, uncond, image)
            finally:
                arrangement.prompts = before
        parser = host_module("prompt_parser")
        prompts, cond = parser.reconstruct_multicond_batch(self.asked["cond"], self.denoiser.step)
        rows = [frame for frame, mine in enumerate(prompts) for _ in mine]
        x_out = self._call(x[rows], sigma[rows], cond, image[rows])
        first = x_out[[mine[0][0] for mine in prompts]]
        combined: Tensor = self.original(torch.cat([x_out, first]), self._placed(prompts, x[: len(first)]), first, 1.0)
        return combined

    def _call(self, x: Tensor, sigma: Tensor, cond: Any, image: Tensor) -> Tensor:
        told = dict(cond) if isinstance(cond, dict) else {"c_crossattn": [cond]}
        predicted: Tensor = self.denoiser.inner_model(x, sigma, cond={**told, "c_concat": [image]})
        return predicted


class _Units:
    """Between what a denoiser works with and k-diffusion's units, in which ``x = x0 + sigma * noise``.

    DDIM, PLMS and UniPC have latents of constant variance and predictions of the noise; their "sigma" is a time step.
    """

    def __init__(self, denoiser: Any, x: Tensor, sigma: Tensor) -> None:
        self.of_noise = hasattr(denoiser, "alphas")
        found = level(denoiser.alphas, sigma).to(x) if self.of_noise else sigma
        self.sigma = found[:, None, None, None]
        self.x = x * (1 + self.sigma**2).sqrt() if self.of_noise else x

    def clean(self, predicted: Tensor) -> Tensor:
        """``x0`` of a prediction."""
        return self.x - self.sigma * predicted if self.of_noise else predicted

    def back(self, x0: Tensor) -> Tensor:
        """The prediction of ``x0``."""
        return (self.x - x0) / self.sigma if self.of_noise else x0
