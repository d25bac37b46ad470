"""What a published technique may do while a clip is sampled: the parts that every host calls, each at its own place.

A technique overrides the parts that it is about. It knows no host and no UNet: what it needs comes with the call. Noise
levels and latents are k-diffusion's in every host: noisy latents are ``x = x0 + sigma * noise``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from motion.errors import MotionError

if TYPE_CHECKING:  # settings are read before torch is
    from torch import Tensor

GUIDE, LIMIT, HOLD = range(3)
"""When a technique edits a step's prediction: what belongs to guidance, then what limits it, then what is given."""


class Layout(Protocol):
    """How a clip is cut into windows; `motion.sampling.windows.Windows` is one."""

    @property
    def frames(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def cut(self) -> bool: ...
    def hop(self) -> int: ...


class Plan(NamedTuple):
    """A clip as it is to be drawn, before anything is."""

    cfg: float
    """The CFG scale; at 1 there is no negative prompt."""
    held: Sequence[int] = ()
    """The frames that are given as pictures."""
    begins_with_noise: bool = True
    """And not with an image."""
    frames: int = 1
    sampler: str = ""
    """Its name in the WebUI."""


class Round(NamedTuple):
    """A run over a clip that has ended, and how noise is drawn for another one."""

    number: int
    """From 1 on."""
    drawn: Tensor
    """``[frames, c, h, w]`` in float32."""
    noise: Tensor
    """What it was drawn from, of the same shape."""
    alpha: float
    """The cumulative alpha of the noisiest time step."""
    seed: int
    """The clip's."""
    draw: Callable[[int], Tensor]
    """Noise of the same shape for a seed, by the host's own generator."""
    layout: Layout


class Detour(NamedTuple):
    """Where a run goes back on its way: the step ``before`` does not begin, it goes on from the step ``back``."""

    back: int
    before: int


class Turn(NamedTuple):
    """A run that is to go back, and how noise is drawn."""

    back: Tensor
    """The first frame as it entered the step to go back to, ``[1, c, h, w]`` in float32."""
    before: Tensor
    """The same as it would enter the step that does not begin."""
    sigmas: tuple[float, float]
    """The noise levels of these steps."""
    frames: int
    seed: int
    """The clip's."""
    draw: Callable[[int], Tensor]
    """Noise ``[frames, c, h, w]`` for a seed, by the host's own generator."""


class Moment(NamedTuple):
    """Where in the clip and in the schedule an evaluation of the network stands."""

    frames: int
    """Rows of each clip."""
    kept: int
    """Frames of the finished clip, the first of them."""
    step: int = 0
    """The place of its noise level in the schedule; a sampler's second evaluation in a step stands where it looks."""
    steps: int = 1
    sigma_next: float = 0.0
    """The noise level at which the next step begins; 0 after the last."""
    window: int = 0
    """Frames of a window; 0 where the clip is not cut."""


class Pictures(NamedTuple):
    """The autoencoder: pictures are ``[n, 3, height, width]`` from 0 to 1, latents ``[n, c, h, w]``."""

    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]


class Pass(NamedTuple):
    """A further prediction for the same latents."""

    text: str
    """ "cond" or "uncond"."""
    motion: bool = True
    """Whether the temporal layers act."""


@dataclass(frozen=True)
class Step:
    """One evaluation of the network, of whole clips: windows are averaged, prompts that AND joins are one.

    ``x [rows, c, h, w]`` at the noise levels ``sigma [rows, 1, 1, 1]``; the rows are the frames of one clip after the
    other. ``x0``: what the network takes the finished clip for, by the text: "cond", and "uncond" where there is one.
    ``given``: latents ``[c, h, w]`` of the frames that are given as pictures.
    """

    moment: Moment
    x: Tensor
    sigma: Tensor
    x0: Mapping[str, Tensor]
    predict: Callable[[Pass], Tensor]
    given: Mapping[int, Tensor]
    pictures: Pictures | None = None
    """Left out where a host has none at this place."""

    def clips(self, x: Tensor) -> Tensor:
        """``[rows, ...]`` as ``[clips, frames, ...]``."""
        return x.reshape(-1, self.moment.frames, *x.shape[1:])


def velocity(x: Tensor, sigma: Tensor | float, x0: Tensor) -> Tensor:
    """``v = alpha eps - s x0`` (Salimans & Ho 2022, arXiv:2202.00512) of noisy latents ``x``, where ``s / alpha`` is
    ``sigma`` and ``alpha² + s² = 1``."""
    return (x - x0 * (1 + sigma**2)) / (sigma * (1 + sigma**2) ** 0.5)


def from_velocity(x: Tensor, sigma: Tensor | float, v: Tensor) -> Tensor:
    """The inverse of `velocity`."""
    return (x - v * (sigma * (1 + sigma**2) ** 0.5)) / (1 + sigma**2)


class Input(NamedTuple):
    """What the UNet is called with: ``x [rows, c, h, w]``, its variance kept at 1, at the time steps ``t [rows]``."""

    x: Tensor
    t: Tensor
    frames: Sequence[int]
    """The frame in each row."""
    given: Mapping[int, Tensor]
    """As `Step.given`."""


class Technique:
    """One published technique, with a clip's settings; every part does nothing unless it is overridden."""

    label: ClassVar[str]
    """What users know it by."""
    paper: ClassVar[str]
    """Where it was published."""
    order: ClassVar[int] = GUIDE
    needs_schedule: bool = False
    """Whether it must know the step; samplers without fixed steps are then refused."""
    takes_given: ClassVar[bool] = False
    """Whether it does something with the frames that are given as pictures."""
    inverts: ClassVar[bool] = False
    """Whether the clip begins with noise that is found in its source."""
    rounds: int = 1
    """How often a clip is drawn."""

    def check(self, plan: Plan) -> None:
        """Raise MotionError if it cannot act on this clip."""

    def begin(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        """The noise ``[frames, c, h, w]`` that the clip begins with, of what was drawn for it."""
        return noise

    def detour(self, times: Sequence[float]) -> Detour | None:
        """Where a run whose steps begin at those time steps goes back; until then only the first frame counts."""
        return None

    def turn(self, turn: Turn) -> Tensor:
        """What all frames go on from, ``[frames, c, h, w]``."""
        raise NotImplementedError

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        """The CFG scale of each of the moment's frames; ``cfg`` is the one that was asked for."""
        return [cfg] * moment.frames

    def see(self, given: Input) -> Input:
        """What the network sees instead; the sampler keeps its own latents and noise level."""
        return given

    def passes(self, texts: Collection[str]) -> Sequence[Pass]:
        """What `edit` asks for in each step that has these ``texts``; where there is room, it comes with them."""
        return ()

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        """The guided prediction ``x0 [rows, c, h, w]`` as the sampler is to take it."""
        return x0

    def again(self, ended: Round) -> Tensor:
        """The noise ``[frames, c, h, w]`` of the next round."""
        return ended.noise

    def finish(self, number: int, frame: Any, given: Any) -> Any:
        """Frame ``number`` as it is shown, ``[height, width, 3]``; ``given`` is its picture in the same size."""
        return frame


def refuse_without_guidance(technique: Technique, plan: Plan) -> None:
    """Raise MotionError where there is no guidance for ``technique`` to act on."""
    if plan.cfg <= 1:
        raise MotionError(
            f"CFG scale is {plan.cfg:g}, which is no guidance: give more than 1, or turn {technique.label} off"
        )


class Techniques:
    """Those that a clip asks for, in the order in which they act. Hosts ask what they `have` and install no more."""

    def __init__(self, members: Iterable[Technique] = ()) -> None:
        self.members = sorted(members, key=lambda technique: technique.order)

    def have(self, part: str) -> list[Technique]:
        """Those that override the part of that name."""
        return [member for member in self.members if getattr(type(member), part) is not getattr(Technique, part)]

    def ask(self, wish: str) -> list[Technique]:
        """Those whose `needs_schedule`, `takes_given` or `inverts` is set."""
        return [member for member in self.members if getattr(member, wish)]

    @property
    def rounds(self) -> int:
        """How often a clip is drawn."""
        return max([1, *(member.rounds for member in self.members)])

    def begin(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        """`Technique.begin` of all."""
        for member in self.members:
            noise = member.begin(noise, layout, seed)
        return noise

    def detour(self, times: Sequence[float]) -> Detour | None:
        """`Technique.detour` of the one that has it."""
        return next((member.detour(times) for member in self.have("detour")), None)

    def turn(self, turn: Turn) -> Tensor:
        """`Technique.turn` of the one that has it."""
        return self.have("turn")[0].turn(turn)

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        """`Technique.scales` of the one that has it, else ``cfg``."""
        guiding = next(iter(self.have("scales")), Technique())
        return guiding.scales(moment, cfg)

    def see(self, given: Input) -> Input:
        """`Technique.see` of all."""
        for member in self.members:
            given = member.see(given)
        return given

    def passes(self, texts: Collection[str]) -> list[Pass]:
        """`Technique.passes` of all."""
        return [further for member in self.members for further in member.passes(texts)]

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        """`Technique.edit` of all."""
        for member in self.members:
            x0 = member.edit(step, x0)
        return x0

    def again(self, ended: Round) -> Tensor:
        """`Technique.again` of those that draw a clip several times."""
        for member in self.have("again"):
            ended = ended._replace(noise=member.again(ended))
        return ended.noise

    def finish(self, number: int, frame: Any, given: Any) -> Any:
        """`Technique.finish` of all."""
        for member in self.members:
            frame = member.finish(number, frame, given)
        return frame
