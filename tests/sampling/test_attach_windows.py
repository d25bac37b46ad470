"""`motion.attach` on clips in windows: what each engine computes, in both layouts of UNets."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import motion
import sparsectrl
from motion.errors import MotionError
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import SCHEDULES, Windows
from tests.support import small
from tests.support.small import far, rows, run

FRAMES, LENGTH = 10, 4
ENGINES = ["denoiser", "attention"]
pytestmark = pytest.mark.usefixtures("inference")
random_model = partial(small.random_model, positions=LENGTH)
batch = partial(small.batch, FRAMES, size=(8, 8))


@pytest.mark.parametrize("family", ["v1", "v3", "sdxl"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("length", [FRAMES, FRAMES + 3])
def test_one_window_is_bit_equal_to_none(host: nn.Module, family: str, engine: str, length: int) -> None:
    model, inputs = random_model(family, positions=16), batch(2)
    arrangement = Arrangement(Windows(FRAMES, length, engine=engine))
    with motion.attach(host, model, FRAMES):
        plain = run(host, inputs)
    with motion.attach(host, model, FRAMES, arrangement=arrangement):
        assert torch.equal(run(host, inputs), plain)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("closed", [False, True])
def test_the_denoiser_sees_each_window_alone_and_predictions_are_averaged(
    precise: nn.Module, schedule: str, closed: bool
) -> None:
    """With everything that belongs to the window's frames, for each group of the batch."""
    model, inputs = random_model(), batch(2)
    windows = Windows(FRAMES, LENGTH, 2, schedule=schedule, closed=closed)
    with motion.attach(precise, model, FRAMES, arrangement=Arrangement(windows)):
        together = run(precise, inputs)
    wanted = torch.zeros_like(together)
    with motion.attach(precise, model, LENGTH):
        found = windows.at(0, 0.95)
        for window, shares in zip(found, windows.shares(found), strict=True):
            both = [*window, *(FRAMES + frame for frame in window)]
            wanted[both] += run(precise, rows(inputs, both)) * wanted.new_tensor(shares * 2)[:, None, None, None]
    assert far(together, wanted) <= 1e-9


@pytest.mark.parametrize("fuse", ["pyramid", "random"])
@pytest.mark.parametrize("closed", [False, True])
def test_views_of_a_whole_clip_are_the_attention_engines_windows(host: nn.Module, fuse: str, closed: bool) -> None:
    """In each step of an open clip; in a loop the window goes on too, and views with it."""
    model, inputs = random_model(), batch(2)
    views = Windows(FRAMES, fuse=fuse, closed=closed, view_length=LENGTH, view_overlap=2)
    cut = Windows(FRAMES, LENGTH, 2, fuse=fuse, closed=closed, engine="attention")
    found = []
    for windows in (views, cut):
        with motion.attach(host, model, FRAMES, arrangement=Arrangement(windows)):
            found += [run(host, inputs), run(host, (inputs[0], inputs[1] - 300, inputs[2]))]
    assert far(found[0], found[2]) <= 1e-5
    assert closed or far(found[1], found[3]) <= 1e-5


def test_a_window_in_views_sees_no_further_than_they_do(precise: nn.Module) -> None:
    """Each window is drawn alone, and in it as the engine "attention" draws a clip of its length."""
    model, inputs = random_model(), batch(2)
    windows = Windows(FRAMES, 6, 2, schedule="static", view_length=LENGTH, view_overlap=1)
    with motion.attach(precise, model, FRAMES, arrangement=Arrangement(windows)):
        together = run(precise, inputs)
    wanted, inside = torch.zeros_like(together), Windows(6, LENGTH, 1, schedule="static", engine="attention")
    with motion.attach(precise, model, 6, arrangement=Arrangement(inside)):
        for window, shares in zip(found := windows.at(0), windows.shares(found), strict=True):
            both = [*window, *(FRAMES + frame for frame in window)]
            wanted[both] += run(precise, rows(inputs, both)) * wanted.new_tensor(shares * 2)[:, None, None, None]
    assert far(together, wanted) <= 1e-9


def test_the_attention_engine_runs_the_unet_once_and_frames_reach_over_their_windows_only(precise: nn.Module) -> None:
    model, (x, t, c) = random_model(), batch()
    windows = Windows(FRAMES, LENGTH, 0, schedule="batched", engine="attention")
    calls: list[int] = []
    counter = precise.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    changed = x.clone()
    changed[0] += 1
    try:
        with motion.attach(precise, model, FRAMES, arrangement=Arrangement(windows)):
            first, second = run(precise, (x, t, c)), run(precise, (changed, t, c))
    finally:
        counter.remove()
    assert calls == [FRAMES, FRAMES]
    differs = [far(b, a) > 1e-9 for a, b in zip(first, second, strict=True)]
    assert differs == [True] * LENGTH + [False] * (FRAMES - LENGTH)
    # Frames of the first window: just as if they were the whole clip.
    with motion.attach(precise, model, LENGTH):
        alone = run(precise, rows((x, t, c), list(range(LENGTH))))
    assert far(first[:LENGTH], alone) <= 1e-9


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loop_has_no_frame_that_is_special(precise: nn.Module, engine: str) -> None:
    """Static windows that divide a loop: a clip turned by one of their hops gives the same, turned."""
    model, inputs = random_model(), small.batch(8, size=(8, 8))
    windows = Windows(8, LENGTH, 2, schedule="static", closed=True, engine=engine)
    turned = [(frame + 2) % 8 for frame in range(8)]
    with motion.attach(precise, model, 8, arrangement=Arrangement(windows)):
        plain, moved = run(precise, inputs), run(precise, rows(inputs, turned))
    assert far(moved, plain[turned]) <= 1e-9


@pytest.mark.parametrize("engine", ENGINES)
def test_prompts_side_by_side_and_windows(host: nn.Module, engine: str) -> None:
    model, inputs = random_model(), batch(3)
    windows = Windows(FRAMES, LENGTH, 1, engine=engine)
    mixed = [row for frame in range(FRAMES) for row in (frame, FRAMES + frame)] + list(range(2 * FRAMES, 3 * FRAMES))
    with motion.attach(host, model, FRAMES, arrangement=Arrangement(windows)):
        whole = run(host, inputs)
    with motion.attach(host, model, FRAMES, arrangement=Arrangement(windows, prompts=2)):
        side_by_side = run(host, rows(inputs, mixed))
    assert torch.equal(side_by_side, whole[mixed])


def test_no_call_is_larger_than_a_window(host: nn.Module) -> None:
    """Whatever the clip's length: this is what bounds the memory."""
    model, inputs = random_model(), small.batch(40, size=(8, 8))
    sizes: list[int] = []
    layer = host.get_submodule("conv_in" if hasattr(host, "conv_in") else "input_blocks.0")
    counter = layer.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        with motion.attach(host, model, 40, arrangement=Arrangement(Windows(40, LENGTH, 1))):
            run(host, inputs)
    finally:
        counter.remove()
    assert set(sizes) == {LENGTH}


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_spatial_layers_in_parts_change_nothing_beyond_rounding(precise: nn.Module, family: str) -> None:
    model, inputs = random_model(family), batch(2)
    windows = Windows(FRAMES, LENGTH, 1, engine="attention")
    sizes: list[int] = []
    with motion.attach(precise, model, FRAMES, arrangement=Arrangement(windows)):
        whole = run(precise, inputs)
    names = {name for name, _ in precise.named_modules()}
    layer = "down_blocks.0.attentions.0.norm" if hasattr(precise, "conv_in") else "input_blocks.1.1.norm"
    counter = precise.get_submodule(layer).register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with motion.attach(precise, model, FRAMES, arrangement=Arrangement(windows, rows_at_once=6)):
        in_parts = run(precise, inputs)
        assert {name for name, _ in precise.named_modules()} == names
    counter.remove()
    assert sizes == [6, 6, 6, 2]
    assert far(in_parts, whole) <= 1e-9
    assert not any("forward" in vars(module) for module in precise.modules())


def test_an_error_between_windows_leaves_the_scope_usable(host: nn.Module) -> None:
    model, inputs = random_model(), batch()
    calls = iter(range(100))

    def stumble(*_: object) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    with motion.attach(host, model, FRAMES, arrangement=Arrangement(Windows(FRAMES, LENGTH, 1, schedule="static"))):
        plain = run(host, inputs)
        hook = host.register_forward_pre_hook(stumble)
        with pytest.raises(KeyboardInterrupt):
            run(host, inputs)
        hook.remove()
        assert torch.equal(run(host, inputs), plain)


def test_windows_reach_every_parameter_with_gradients(unet: nn.Module) -> None:
    for engine in ENGINES:
        model = random_model("v1").train().requires_grad_(True)
        arrangement = Arrangement(Windows(FRAMES, LENGTH, 2, engine=engine))
        with torch.enable_grad(), motion.attach(unet, model, FRAMES, arrangement=arrangement):
            run(unet, batch()).square().mean().backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_a_window_beyond_the_position_table_is_refused(unet: nn.Module) -> None:
    with pytest.raises(MotionError, match=r"5 frames .* 1 to 4"):
        motion.attach(unet, random_model(), FRAMES, arrangement=Arrangement(Windows(FRAMES, 5))).__enter__()
    with pytest.raises(MotionError, match=r"arrangement is of 10 frames, not of 8"):
        motion.attach(unet, random_model(), 8, arrangement=Arrangement(Windows(FRAMES, 4))).__enter__()


def reading_the_first(unet: nn.Module, arrangement: Arrangement) -> list[Any]:
    """Hooks by which each spatial self-attention takes keys and values of its clip's frame 0, wherever that lies."""

    def first(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        frames = arrangement.together
        clips = args[0].unflatten(0, (-1, len(frames)))
        tokens = clips[:, [frames.index(0)] * len(frames)].flatten(0, 1)
        name = "context" if "context" in kwargs else "encoder_hidden_states"
        return args, {**kwargs, name: tokens}

    layers = [layer for name, layer in unet.named_modules() if name.endswith("attn1")]
    return [layer.register_forward_pre_hook(first, with_kwargs=True) for layer in layers]


def test_what_only_reads_the_first_frame_is_the_same_in_windows_and_whole(precise: nn.Module) -> None:
    inputs = batch(2)
    drawn = []
    for windows in (Windows(FRAMES), Windows(FRAMES, LENGTH, 1)):
        arrangement = Arrangement(windows)
        arrangement.give(lambda window: (0,))
        hooks = reading_the_first(precise, arrangement)
        try:
            with attach_windows(precise, arrangement):
                drawn.append(run(precise, inputs))
        finally:
            for hook in hooks:
                hook.remove()
    assert far(drawn[1], drawn[0]) <= 1e-9
    assert far(run(precise, inputs), drawn[0]) > 1e-3


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_frames_that_are_only_read_are_hidden_from_temporal_layers(precise: nn.Module, family: str) -> None:
    """And written by nobody, SparseCtrl's layers included; given back, nothing is left of them."""
    model, encoder, inputs = random_model(family), small.random_encoder(), batch(2)
    shown = small.keyed(1, clip=FRAMES, size=(8, 8))
    arrangement = Arrangement(Windows(FRAMES, LENGTH, 1))

    def drawn() -> torch.Tensor:
        arrangement.restart()
        with (
            motion.attach(precise, model, FRAMES, arrangement=arrangement),
            sparsectrl.attach(precise, encoder, shown, FRAMES, arrangement=arrangement),
        ):
            return run(precise, inputs)

    plain = drawn()
    undo = arrangement.give(lambda window: (0, max(0, window[0] - 1), FRAMES - 1))
    assert far(drawn(), plain) <= 1e-9
    assert len(arrangement.together) > LENGTH and arrangement.moving == arrangement.window
    undo()
    assert torch.equal(drawn(), plain)


def test_temporal_layers_see_what_they_are_given(precise: nn.Module) -> None:
    """As longer windows do of which some frames count nothing; beyond the position table it is refused."""
    model, inputs = random_model(positions=LENGTH + 1), batch()
    arrangement = Arrangement(Windows(FRAMES, LENGTH, 0, schedule="batched"))
    arrangement.give(lambda window: (0,), to_temporal=True)
    with motion.attach(precise, model, FRAMES, arrangement=arrangement):
        found = run(precise, inputs)
    last = list(range(FRAMES - LENGTH, FRAMES))
    with motion.attach(precise, model, LENGTH + 1):
        alone = run(precise, rows(inputs, [*last, 0]))
    assert far(found[2 * LENGTH :], alone[LENGTH - 2 : LENGTH]) <= 1e-9
    arrangement.give(lambda window: (1,), to_temporal=True)
    with pytest.raises(MotionError, match="6"), motion.attach(precise, model, FRAMES, arrangement=arrangement):
        raise AssertionError("attached")
    with pytest.raises(MotionError, match="denoiser"):
        Arrangement(Windows(FRAMES, LENGTH, engine="attention")).give(lambda window: (0,), to_temporal=True)


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_temporal_layers_that_stand_aside_are_as_if_not_there(host: nn.Module, family: str) -> None:
    arrangement, inputs = Arrangement(Windows(LENGTH)), small.batch(LENGTH, 2, (8, 8))
    arrangement.still = True
    with motion.attach(host, random_model(family), LENGTH, arrangement=arrangement):
        still = run(host, inputs)
    assert torch.equal(still, run(host, inputs))


@pytest.mark.parametrize(("family", "engine"), [("v1", "denoiser"), ("v3", "attention")])
def test_clips_that_stand_still_beside_others_are_those_of_no_module(
    precise: nn.Module, family: str, engine: str
) -> None:
    """And the others those that they are by themselves, with frames that are only read, too."""
    model, inputs = random_model(family), batch(2)
    arrangement = Arrangement(Windows(FRAMES, LENGTH, 1, engine=engine))
    arrangement.give(lambda window: (0,))
    plain = run(precise, inputs)
    with motion.attach(precise, model, FRAMES, arrangement=arrangement):
        moving = run(precise, inputs)
        arrangement.restart()
        with arrangement.beside(1):
            found = run(precise, inputs)
    assert arrangement.still_clips == 0
    still, moved = found.chunk(2)
    assert far(still, plain[:FRAMES]) <= 1e-9 and far(moved, moving[FRAMES:]) <= 1e-9
    assert far(moving, plain) > 1e-3
