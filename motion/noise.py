"""What clips start from: noise that frames share, initial images that fade into it. Pure functions over frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from motion.windows import Windows


def noise_order(kind: str, windows: Windows, seed: int) -> list[int]:
    """Which of its independent noises each frame of a clip begins with.

    "independent": its own. "constant": all the first. "repeated": those of the first window again and again.
    "freenoise": the same, but each stretch from one window's beginning to the next is shuffled (Qiu et al. 2023,
    "FreeNoise", arXiv:2310.15169, section 3.2), by a generator of its own that starts from ``seed``. "auto": that one
    for clips in windows, else the first.
    """
    frames, length, hop = windows.frames, windows.size, windows.hop()
    kind = ("freenoise" if windows.cut else "independent") if kind == "auto" else kind
    if kind == "constant":
        return [0] * frames
    if kind == "repeated":
        return [frame % length for frame in range(frames)]
    if kind == "independent":
        return list(range(frames))
    generator, order = torch.Generator().manual_seed(seed), list(range(length))
    while len(order) < frames:
        block = order[len(order) - length :][:hop]
        order += [block[place] for place in torch.randperm(len(block), generator=generator).tolist()]
    return order[:frames]


FRESH_SEED = 1 << 17
"""How far from the clip's seed FreeInit's fresh noise is drawn, for each round as far again. Its stream is its own:
samplers differ from host to host in how much noise they take out of the clip's."""

FILTERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "butterworth": lambda square, stop: 1 / (1 + (square / stop**2) ** 4),
    "gaussian": lambda square, stop: torch.exp(-square / (2 * stop**2)),
    "ideal": lambda square, stop: (square <= stop**2).float(),
}
"""FreeInit's filters: how much of a frequency stays, by the square of its distance from zero and the stop frequency."""


def low_pass(shape: tuple[int, int, int], kind: str, spatial: float = 0.25, temporal: float = 0.25) -> Tensor:
    """How much of each frequency of ``[frames, h, w]`` a filter lets through, 0 to 1 in the order of `torch.fft.fftn`.

    A frequency's distance is 1 at half the sampling rate; along time it counts ``spatial / temporal`` times.
    """
    axes = [2 * torch.fft.fftfreq(size) for size in shape]
    scaled = (axes[0] * (spatial / temporal), *axes[1:])
    square = sum(axis.square() for axis in torch.meshgrid(*scaled, indexing="ij"))
    return FILTERS[kind](square, spatial)  # type: ignore[arg-type]


def reinitialised(drawn: Tensor, noise: Tensor, fresh: Tensor, alpha: float, kind: str = "butterworth") -> Tensor:
    """The noise to draw a clip from once more: its slow parts from what was drawn, the fast ones fresh.

    ``drawn``: latents ``[frames, c, h, w]`` made from ``noise``; they are noised with it to the last time step, at
    which the cumulative alpha is ``alpha``, and give the low frequencies; ``fresh`` gives the high ones.
    Source: Wu et al. 2023, "FreeInit" (arXiv:2312.07537), equations 6 to 9; fresh noise in each round as in theirs.
    """
    low, dims = low_pass((len(drawn), *drawn.shape[-2:]), kind).to(drawn), (0, 1, 2)

    def mixed(drawn: Tensor, noise: Tensor, fresh: Tensor) -> Tensor:
        noised = math.sqrt(alpha) * drawn + math.sqrt(1 - alpha) * noise
        frequencies = torch.fft.fftn(noised, dim=dims) * low + torch.fft.fftn(fresh, dim=dims) * (1 - low)
        return torch.fft.ifftn(frequencies, dim=dims).real

    # Channel by channel: the frequencies of a long clip take several times the memory of its latents.
    channels = zip(*(part.unbind(1) for part in (drawn, noise, fresh)), strict=True)
    return torch.stack([mixed(*channel) for channel in channels], dim=1)


def fade_weights(frames: int, power: float, scale: float, to_last: bool = False) -> tuple[Tensor, Tensor]:
    """Weights of the first and of the last image in each frame, float32 ``[frames]`` each.

    The first has ``1 - i^power / scale``, from 0 on; the last, if there is one, the same from the other end. Where
    both together exceed 1 they share it, and each end belongs to its own image alone
    (sd-webui-animatediff's formula for image to video).
    """
    place = torch.arange(frames, dtype=torch.float32)
    first = (1 - place**power / scale).clamp(min=0)
    last = first.flip(0) if to_last else torch.zeros(frames)
    if to_last:
        total = (first + last).clamp(min=1)
        first, last = first / total, last / total
        first[-1], last[-1] = 0, 1
        first[0], last[0] = (1, 0) if frames > 1 else (0, 1)
    return first, last


def fade(
    first: Tensor, noise: Tensor, power: float, scale: float, last: Tensor | None = None, frames: int | None = None
) -> Tensor:
    """Latents ``[drawn, c, h, w]`` that go from the image ``first`` over into ``noise`` (and to ``last``).

    ``first`` and ``last`` are latents of the same shape as ``noise``, or broadcast to it. Of all that are drawn
    ``frames`` will be kept, by default all: over these it fades, and what is drawn behind them stays at the end.
    """
    kept = len(noise) if frames is None else frames
    place = torch.arange(len(noise)).clamp(max=kept - 1)
    weights = fade_weights(kept, power, scale, last is not None)
    of_first, of_last = (weight[place].to(noise)[:, None, None, None] for weight in weights)
    faded = first * of_first + noise * (1 - of_first - of_last)
    return faded if last is None else faded + last * of_last
