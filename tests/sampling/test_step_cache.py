"""The step cache: what it takes over, and that it does so by frame and prediction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.step_cache import INTERVALS, StepCacheSettings
from sparsectrl import Influence
from tests.support import small
from tests.support.small import Counted, far, keyed, random_encoder, random_model, rows, run
from tests.support.trace import ERRORS, check_no_trace, everything

FRAMES, LENGTH, STEPS = 4, 3, 8
ENGINES = ["denoiser", "attention"]
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES, size=(8, 8))


@contextmanager
def cached(unet: nn.Module, arrangement: Arrangement, interval: int = 3, positions: int = 32) -> Iterator[None]:
    """The UNet moves, by the same module each time, with a step cache."""
    torch.manual_seed(1)
    with (
        motion.attach(unet, random_model(positions=positions), FRAMES, arrangement=arrangement),
        motion.step_cache.attach(unet, arrangement, interval),
    ):
        yield


def steps(
    unet: nn.Module,
    arrangement: Arrangement,
    inputs: small.Inputs,
    call: Callable[[small.Inputs], Tensor] | None = None,
    count: int = 4,
) -> list[Tensor]:
    """What is predicted in the steps of a run that begins with the latents and moves them a little in each."""
    x, _, context = inputs
    found = []
    for step in range(count):
        arrangement.step_begins(step, count)
        t = torch.full((len(x),), 900 - 100 * step)
        found.append((call or partial(run, unet))((x, t, context)))
        x = x + 0.05 * found[-1].to(x)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interval_of_one_is_bit_equal(host: nn.Module, engine: str) -> None:
    model, inputs = random_model(positions=LENGTH), batch(2)
    found = []
    for interval in (None, 1):
        arrangement = Arrangement(Windows(FRAMES, LENGTH, 1, engine=engine))
        with motion.attach(host, model, FRAMES, arrangement=arrangement), ExitStack() as scope:
            if interval:
                scope.enter_context(motion.step_cache.attach(host, arrangement, interval))
            found.append(steps(host, arrangement, inputs, count=2))
    assert all(map(torch.equal, *found))


def test_off_installs_nothing(unet: nn.Module) -> None:
    before = everything(unet)
    with motion.step_cache.attach_by_settings(unet, StepCacheSettings(), Arrangement(Windows(FRAMES))):
        assert everything(unet) == before
    with motion.step_cache.attach_by_settings(unet, StepCacheSettings("fast"), Arrangement(Windows(FRAMES))):
        assert everything(unet) != before


@pytest.mark.parametrize("mode", ["light", "balanced", "fast"])
def test_the_deep_layers_are_computed_in_the_steps_that_the_mode_says(host: nn.Module, mode: str) -> None:
    arrangement, interval, count = Arrangement(Windows(FRAMES)), INTERVALS[mode], 12
    with Counted(host) as computed, cached(host, arrangement, interval):
        steps(host, arrangement, batch(), count=count)
    assert computed == [FRAMES] * len({0, 1, *range(0, count, interval), count - 1})


def test_what_is_near_the_noise_is_taken_exactly(precise: nn.Module) -> None:
    """With the same input the deep layers leave the same: then nothing changes at all."""
    inputs, arrangement = batch(2), Arrangement(Windows(FRAMES))
    with Counted(precise) as computed, cached(precise, arrangement, 3):
        found = []
        for step in range(5):
            arrangement.step_begins(step, 9)
            found.append(run(precise, inputs))
    assert computed == [2 * FRAMES] * 3
    assert all(far(again, found[0]) <= 1e-12 for again in found)


@pytest.mark.parametrize(("schedule", "closed"), [("uniform", False), ("composite", False), ("static", True)])
def test_moving_windows_are_one_window_where_nothing_is_temporal(
    precise: nn.Module, schedule: str, closed: bool
) -> None:
    inputs, found = batch(2), []
    for windows in (Windows(FRAMES), Windows(FRAMES, LENGTH, 1, schedule=schedule, closed=closed)):
        arrangement = Arrangement(windows)
        with attach_windows(precise, arrangement), motion.step_cache.attach(precise, arrangement, 3):
            found.append(steps(precise, arrangement, inputs))
    assert max(map(far, *found)) <= 1e-9


@pytest.mark.parametrize("engine", ENGINES)
def test_prompts_apart_in_any_order_are_prompts_together(precise: nn.Module, engine: str) -> None:
    """Where the host says what a call is for."""
    x, _, context = batch(2)
    halves = list(range(FRAMES)), list(range(FRAMES, 2 * FRAMES))
    together = [1, 0]

    def told(inputs: small.Inputs, kinds: list[int]) -> Tensor:
        options = {"transformer_options": {"cond_or_uncond": kinds}}
        with pytest.MonkeyPatch.context() as patch:
            plain = precise.forward
            patch.setattr(precise, "forward", lambda *args, transformer_options=None, **kwargs: plain(*args, **kwargs))
            output = precise(
                *(part.to(torch.float64) if part.is_floating_point() else part for part in inputs), **options
            )
        return output if isinstance(output, Tensor) else output.sample

    def apart(inputs: small.Inputs) -> Tensor:
        nonlocal together
        together = together[::-1]
        parts = {kind: told(rows(inputs, halves[1 - kind]), [kind]) for kind in together}
        return torch.cat([parts[1], parts[0]])

    found = []
    for call in (lambda inputs: told(inputs, [1, 0]), apart):
        arrangement = Arrangement(Windows(FRAMES, LENGTH, 1, engine=engine))
        with cached(precise, arrangement, 3):
            found.append(steps(precise, arrangement, (x, x, context), call))
    assert max(map(far, *found)) <= 1e-9


def test_a_further_pass_takes_its_own(precise: nn.Module) -> None:
    """And leaves the step's own predictions as they are without it."""
    inputs, found = batch(), []
    for asks in (False, True):
        arrangement = Arrangement(Windows(FRAMES))

        def call(given: small.Inputs, arrangement: Arrangement = arrangement, asks: bool = asks) -> Tensor:
            if asks:
                with arrangement.further("cond", motion=False):
                    run(precise, given)
            return run(precise, given)

        with cached(precise, arrangement, 3):
            found.append(steps(precise, arrangement, inputs, call))
    assert max(map(far, *found)) <= 1e-12


def test_what_has_nothing_to_take_is_computed(unet: nn.Module) -> None:
    """A negative prompt that comes later, another size, another pass."""
    arrangement = Arrangement(Windows(FRAMES))
    larger = small.batch(FRAMES, size=(16, 16))
    with Counted(unet) as computed, cached(unet, arrangement, 5):
        for step in range(3):
            arrangement.step_begins(step)
            run(unet, batch())
        assert len(computed) == 2
        run(unet, batch())
        assert len(computed) == 3, "another prediction of the step"
        arrangement.step_begins()
        run(unet, larger)
        assert len(computed) == 4, "another size"
        arrangement.step_begins()
        run(unet, larger)
        assert len(computed) == 4
        arrangement.restart()
        arrangement.step_begins(5)
        run(unet, larger)
        assert len(computed) == 5, "another pass"


def test_a_step_in_which_a_control_begins_or_ends_is_whole(unet: nn.Module) -> None:
    arrangement, encoder = Arrangement(Windows(FRAMES)), random_encoder()
    influence = Influence(start=0.3, end=0.55)
    scope = sparsectrl.attach(unet, encoder, keyed(0, clip=FRAMES, size=(8, 8)), FRAMES, 1.0, influence, arrangement)
    with Counted(unet) as computed, cached(unet, arrangement, 100), scope:
        whole = []
        for step in range(STEPS):
            arrangement.step_begins(step, STEPS)
            run(unet, (batch()[0], torch.full((FRAMES,), 900 - 100 * step), batch()[2]))
            whole.append(len(computed))
    assert [step for step in range(STEPS) if whole[step] > (whole[step - 1] if step else 0)] == [0, 1, 3, 5, 7]


def test_a_step_in_which_what_the_host_tells_is_another_is_whole(unet: nn.Module) -> None:
    """And what is computed only in a later step (a negative prompt that the host leaves out at times), as well."""
    arrangement, text, whole = Arrangement(Windows(FRAMES)), ["a"], []
    arrangement.states.append(lambda: text[0])
    with Counted(unet) as computed, cached(unet, arrangement, 100):
        for step in range(STEPS):
            text[0] = "a" if step < 4 else "b"
            arrangement.step_begins(step, STEPS)
            run(unet, batch())
            if step != 4:
                run(unet, batch())
            whole.append(len(computed))
            computed.clear()
    assert whole == [2, 2, 0, 0, 1, 1, 0, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_of_an_encoder_the_outermost_residual_alone_is_asked_for(precise: nn.Module, engine: str) -> None:
    """With the same input the step is that of the whole network, and the encoder's deep layers are not computed."""
    inputs = batch(2)
    arrangement, encoder = Arrangement(Windows(FRAMES, LENGTH, 1, schedule="static", engine=engine)), random_encoder()
    encoder = copy.deepcopy(encoder).double()
    calls: list[int] = []
    encoder.mid_block.register_forward_pre_hook(lambda *_: calls.append(1))
    condition = keyed(0, 3, clip=FRAMES, size=(8, 8)).double()
    scope = sparsectrl.attach(precise, encoder, condition, FRAMES, arrangement=arrangement)
    with cached(precise, arrangement, 9, LENGTH), scope:
        arrangement.step_begins(1)
        plain, before = run(precise, inputs), len(calls)
        arrangement.step_begins(2)
        again = run(precise, inputs)
    assert len(calls) == before > 0
    if engine == "attention":
        assert far(again, plain) <= 1e-9
    else:  # where windows overlap, what is deep has become their average
        assert 0 < far(again, plain) < 0.5


def test_features_beyond_the_bounds_wait_elsewhere_or_are_not_kept(
    unet: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, found = batch(), []
    for on_device, most in ((2**30, 2**30), (0, 2**30), (0, 0)):
        monkeypatch.setattr(motion.step_cache, "ON_DEVICE", on_device)
        monkeypatch.setattr(motion.step_cache, "MOST", most)
        arrangement = Arrangement(Windows(FRAMES))
        with Counted(unet) as computed, cached(unet, arrangement, 3):
            found.append((steps(unet, arrangement, inputs)[-1], len(computed)))
    (on, few), (elsewhere, as_few), (_, all_steps) = found
    assert torch.equal(on, elsewhere)
    assert few == as_few < all_steps == 4
    assert caplog.text.count("step cache is off") == 1


@pytest.mark.parametrize("error", ERRORS)
def test_it_leaves_no_trace(host: nn.Module, error: type[BaseException] | None) -> None:
    arrangement = Arrangement(Windows(FRAMES))

    @contextmanager
    def attach() -> Any:
        with cached(host, arrangement, 3):
            arrangement.step_begins(0)
            yield

    scope: Callable[[], AbstractContextManager[None]] = attach
    check_no_trace(host, batch(), scope, error)
    assert not arrangement.listeners
    assert not arrangement.aside
