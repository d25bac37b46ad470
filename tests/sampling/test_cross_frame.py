"""Cross-frame attention: the authors' numbers, what each table means, and what it leaves behind."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero import (
    CrossFrameAttnProcessor2_0,
)
from einops import rearrange
from torch import Tensor, nn

import motion
import sparsectrl
from motion.errors import MotionError
from motion.models import sites
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import HIERARCHICAL, Windows
from tests.support.small import (
    TEXT,
    WIDTHS,
    batch,
    far,
    keyed,
    random_encoder,
    random_model,
    random_pair,
    rows,
    run,
)
from tests.support.trace import check_no_trace

pytestmark = pytest.mark.usefixtures("inference")
attach = motion.cross_frame.attach
OracleOf = Callable[[str], dict[str, Tensor]]
SELF = [[frame] for frame in range(4)]


def outermost(unet: nn.Module) -> Any:
    """Self-attention of the latents' own size."""
    return next(layer for layer, level in sites.self_attentions(sites.find(unet)) if level == 0)


def test_the_first_frame_as_text2video_zero_has_it(host: nn.Module, oracle_of: OracleOf) -> None:
    io = oracle_of("techniques/t2vz_unet")
    with attach(host, 8, "first"):
        found = run(host, (io["x"], io["t"].expand(16), io["c"].repeat_interleave(8, 0)))
    assert far(found, io["y"]) <= 1e-5


@pytest.mark.parametrize("norms", ["", "_framewise_groupnorm"])
@pytest.mark.parametrize(("mode", "name"), [("full", "y_full"), ("pair", "y_inter")])
def test_all_frames_and_two_as_controlvideo_has_it(
    host: nn.Module, oracle_of: OracleOf, mode: str, name: str, norms: str
) -> None:
    io = oracle_of("techniques/controlvideo_unet")
    with attach(host, 4, mode, clip_norms=not norms):
        x = rearrange(io["x"], "b c f h w -> (b f) c h w")
        found = run(host, (x, io["t"].expand(8), io["c"].repeat_interleave(4, 0)))
    assert far(found, rearrange(io[name + norms], "b c f h w -> (b f) c h w")) <= 1e-5


def test_a_controlnet_with_norms_over_the_clip_is_controlvideos(unet: nn.Module, oracle_of: OracleOf) -> None:
    """Frames of the ControlNet look at themselves; its residuals join the UNet whose frames look at all.

    The authors' UNet adds the last residual in place, and so once more in its middle (`y` of the oracle): left out.
    """
    io = {name: _as_batch(tensor) for name, tensor in oracle_of("techniques/controlvideo_controlnet_io").items()}
    net = ControlNetModel(
        block_out_channels=WIDTHS,
        cross_attention_dim=TEXT,
        attention_head_dim=8,
        conditioning_embedding_out_channels=(4, 8, 12, 16),
    ).eval()
    net.load_state_dict(oracle_of("techniques/controlvideo_controlnet"))
    text = io["c"].repeat_interleave(3, 0)
    with attach(net, 3, [[0], [1], [2]], clip_norms=True):
        down, middle = net(io["x"], io["t"], text, io["cond"].repeat(2, 1, 1, 1), return_dict=False)
    for found, name in ((down[0], "down0"), (down[11], "down11"), (middle, "mid")):
        assert far(found, io[name]) <= 1e-5
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    with attach(unet, 3, "full", clip_norms=True):
        assert far(unet(io["x"], io["t"], text, **residuals).sample, io["y_no_alias"]) <= 1e-5


def _as_batch(x: Tensor) -> Tensor:
    return rearrange(x, "b c f h w -> (b f) c h w") if x.ndim == 5 else x


def test_first_is_diffusers_own(unet: UNet2DConditionModel) -> None:
    inputs = batch(4, groups=2)
    own = unet.attn_processors
    try:
        unet.set_attn_processor(
            {name: CrossFrameAttnProcessor2_0(2) if "attn1" in name else one for name, one in own.items()}
        )
        wanted = run(unet, inputs)
    finally:
        unet.set_attn_processor(own)
    with attach(unet, 4, "first"):
        assert far(run(unet, inputs), wanted) <= 2e-6


def test_frames_that_read_themselves_are_bit_equal_to_no_hook(host: nn.Module) -> None:
    inputs = batch(4, groups=2)
    plain = run(host, inputs)
    with attach(host, 4, SELF):
        assert run(host, inputs).equal(plain)
    with attach(host, 4, "first", levels=()):
        assert run(host, inputs).equal(plain)


@pytest.mark.parametrize("mode", ["first", "sparse-causal"])
def test_its_strength_is_between_a_frames_own_and_the_others(unet: nn.Module, mode: str) -> None:
    """At the first attention, whose input is the same whatever the strength."""
    inputs, outputs = batch(4, groups=2), []
    attention = unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn1")
    for strength in (0.0, 1.0, "0: 0, 1: 0.25, 2: 1"):
        with attach(unet, 4, mode, strength=strength):
            handle = attention.register_forward_hook(lambda _, args, output: outputs.append(output))
            run(unet, inputs)
            handle.remove()
    own, others, found = outputs
    for row, share in enumerate((0, 0.25, 1, 1) * 2):
        assert far(found[row], own[row] + share * (others[row] - own[row])) <= 1e-6
    assert found[0].equal(own[0]) and far(own, others) > 1e-3
    plain = run(unet, inputs)
    with attach(unet, 4, mode, strength="0: 0"):
        assert run(unet, inputs).equal(plain)
    with pytest.raises(MotionError, match="9 is not in a clip of 4 frames"), attach(unet, 4, mode, strength="9: 1"):
        pass


def test_full_has_no_order(unet: nn.Module) -> None:
    precise = copy.deepcopy(unet).double()
    inputs, order = batch(4, groups=2), [2, 0, 3, 1]
    with attach(precise, 4, "full"):
        plain, mixed = (run(precise, part) for part in (inputs, rows(inputs, [*order, *(4 + at for at in order)])))
    assert far(mixed[:4], plain[order]) <= 1e-9
    assert far(mixed[4:], plain[[4 + at for at in order]]) <= 1e-9


@pytest.mark.parametrize(
    ("mode", "table"),
    [
        ("first", [[0], [0], [0], [0]]),
        ("sparse-causal", [[0, 0], [0, 0], [0, 1], [0, 2]]),
        ("full", [[0, 1, 2, 3]] * 4),
        ("pair", [[0, 3], [0, 3], [0, 3], [0, 3]]),
        ("style-aligned", [[0], [1, 0], [2, 0], [3, 0]]),
    ],
)
def test_a_frame_reads_what_the_table_says(precise: nn.Module, mode: str, table: list[list[int]]) -> None:
    """What a frame reads changes it, and nothing else does: one layer is looked at, whose input is the batch's."""
    layer = outermost(precise)
    name = "context" if hasattr(precise, "input_blocks") else "encoder_hidden_states"
    attention, x = partial(layer, **{name: None}), torch.randn(8, 6, WIDTHS[0], dtype=torch.float64)
    with attach(precise, 4, mode, levels=(0,)):
        run(precise, batch(4, groups=2))  # the hooks look up the frames when a call begins
        plain = attention(x)
        for changed in range(4):
            other = x.clone()
            other[changed] += 1
            moved = {row for row in range(8) if far(attention(other)[row], plain[row]) > 1e-9}
            assert moved == {frame for frame in range(4) if changed in table[frame] or changed == frame}


@pytest.mark.parametrize(("mode", "projected"), [("first", 1), ("sparse-causal", 4), ("full", 4), ("pair", 2)])
def test_the_keys_of_a_frame_are_projected_once(host: nn.Module, mode: str, projected: int) -> None:
    attention, seen = outermost(host), []
    undo = attention.to_k.register_forward_hook(lambda _, args, output: seen.append(args[0].numel()))
    with attach(host, 4, mode):
        run(host, batch(4, groups=2, size=(8, 16)))
    undo.remove()
    assert seen == [2 * projected * 8 * 16 * WIDTHS[0]]


@pytest.mark.parametrize("mode", ["first", "sparse-causal"])
def test_the_order_of_the_scopes_does_not_matter(unet: nn.Module, mode: str) -> None:
    precise = copy.deepcopy(unet).double()
    module, encoder, condition = random_model(), random_encoder(), keyed(0, clip=4)
    layers: dict[str, Any] = sites.attention_layers(precise)  # type: ignore[assignment]
    pairs = {name: random_pair(layer.out_features, layer.in_features) for name, layer in layers.items()}
    lora = motion.lora.Lora("adapter", "image", pairs, {})
    scopes: list[Callable[[], Any]] = [
        lambda: attach(precise, 4, mode),
        lambda: motion.attach(precise, module, 4),
        lambda: motion.lora.attach(precise, module, [(lora, 0.7)]),
        lambda: sparsectrl.attach(precise, encoder, condition, 4),
    ]
    found = []
    for order in (scopes, scopes[::-1]):
        with ExitStack() as scope:
            for enter in order:
                scope.enter_context(enter())
            found.append(run(precise, batch(4, groups=2)))
    assert far(*found) <= 1e-9


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_windows_of_the_first_frame_are_the_whole(unet: nn.Module, engine: str) -> None:
    inputs, windows = batch(7, groups=2), Windows(7, 3, overlap=1, engine=engine)
    with attach(unet, 7, "first"):
        wanted = run(unet, inputs)
    arrangement = Arrangement(windows)
    with attach_windows(unet, arrangement), attach(unet, 7, "first", arrangement=arrangement):
        assert far(run(unet, inputs), wanted) <= 2e-6


def test_aligned_frames_have_the_first_ones_statistics(unet: UNet2DConditionModel) -> None:
    """StyleAligned by hand, in the outermost layer of one clip."""
    precise = copy.deepcopy(unet).double()
    layer, x = outermost(precise), torch.randn(4, 6, WIDTHS[0], dtype=torch.float64)
    with attach(precise, 4, "style-aligned", levels=(0,)):
        run(precise, batch(4))
        found = layer(x)

    def aligned(projected: Tensor) -> Tensor:
        deviation = (projected.var(1, keepdim=True) + 1e-5).sqrt()
        normal = (projected - projected.mean(1, keepdim=True)) / deviation
        return normal * deviation[:1] + projected[:1].mean(1, keepdim=True)

    queries, keys, values = aligned(layer.to_q(x)), aligned(layer.to_k(x)), layer.to_v(x)
    both = [torch.cat([part, part[:1].expand_as(part)], 1) for part in (keys, values)]
    heads = (rearrange(part, "f n (h d) -> f h n d", h=layer.heads) for part in (queries, *both))
    attended = rearrange(nn.functional.scaled_dot_product_attention(*heads), "f h n d -> f n (h d)")
    assert far(found, layer.to_out[0](attended)) <= 1e-9


def test_a_later_window_reads_the_first(unet: nn.Module) -> None:
    """Frames of the first window as they are, those behind it beside the frame at their place in it."""
    inputs, windows = batch(6), Windows(6, 3, overlap=0, schedule="static", fuse="flat")
    plain, arrangement = run(unet, inputs), Arrangement(windows)
    with attach_windows(unet, arrangement), attach(unet, 6, "reference", arrangement=arrangement):
        found = run(unet, inputs)
    with attach(unet, 6, [[0, 0], [1, 1], [2, 2], [3, 0], [4, 1], [5, 2]]):
        assert far(found, run(unet, inputs)) <= 2e-6
    assert far(found[:3], plain[:3]) <= 2e-6 < far(found[3:], plain[3:])
    with attach(unet, 6, "reference"):  # one window is its own reference
        assert run(unet, inputs).equal(plain)


def test_the_hierarchy_is_its_parts_by_hand(unet: nn.Module) -> None:
    """Key frames read each other; between two, frames read the first of these and the last of their own."""
    inputs, windows = batch(7), Windows(7, 4, schedule=HIERARCHICAL)
    arrangement = Arrangement(windows)
    scope = attach(unet, 7, "full", clip_norms=True, arrangement=arrangement)
    with attach_windows(unet, arrangement), scope:
        found = run(unet, inputs)
    keys = [0, 3, 6]
    with attach(unet, 3, "full", clip_norms=True):
        assert far(found[keys], run(unet, rows(inputs, keys))) <= 2e-6
    for first, last in ((0, 3), (3, 6)):
        with attach(unet, 4, "pair", clip_norms=True):  # as the authors' network is given them
            drawn = run(unet, rows(inputs, [first, last, first + 1, first + 2]))[2:]
        assert far(found[first + 1 : last], drawn) <= 2e-6


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_nothing_is_left(host: nn.Module, error: type[BaseException] | None) -> None:
    check_no_trace(host, batch(4), lambda: attach(host, 4, "full", clip_norms=True), error)


def test_it_acts_where_and_when_it_is_told(host: nn.Module) -> None:
    levels = Counter(level for _, level in sites.self_attentions(sites.find(host)))
    assert levels == {0: 5, 1: 5, 2: 5, 3: 1}
    x, _, text = batch(4)
    plain = {time: run(host, (x, torch.full((4,), time), text)) for time in (950, 50)}
    for level in levels:
        with attach(host, 4, "first", levels=(level,)):
            assert not run(host, (x, torch.full((4,), 950), text)).equal(plain[950])
    with attach(host, 4, "first", start=0.5):
        assert run(host, (x, torch.full((4,), 950), text)).equal(plain[950])
        assert not run(host, (x, torch.full((4,), 50), text)).equal(plain[50])


def test_a_controlnet_reads_other_frames_as_well() -> None:
    net = ControlNetModel(
        block_out_channels=WIDTHS, cross_attention_dim=TEXT, conditioning_embedding_out_channels=(4, 4)
    ).eval()
    for convolution in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        nn.init.normal_(convolution.weight)
    x, time, text = batch(4)
    hint = torch.rand(4, 3, 16, 32)
    plain = net(x, time, text, hint).mid_block_res_sample
    with attach(net, 4, "full"):
        assert not net(x, time, text, hint).mid_block_res_sample.equal(plain)
    assert net(x, time, text, hint).mid_block_res_sample.equal(plain)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frames": 1}, "a clip of 1 frame"),
        ({"mode": "last"}, "choose one of first, sparse-causal, full, style-aligned, reference, pair"),
        ({"mode": SELF, "frames": 5}, "the table has 4 frames and the clip 5"),
        ({"mode": "pair", "pair": (0, 4)}, "give each as many of 0 to 3"),
        ({"mode": [[0], [0, 1], [0], [0]]}, "give each as many"),
    ],
)
def test_what_cannot_be_read_is_refused(unet: nn.Module, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MotionError, match=told), attach(unet, **{"frames": 4, **options}):
        pass


def test_a_batch_of_other_frames_and_a_second_scope_are_refused(unet: nn.Module) -> None:
    with attach(unet, 4):
        with pytest.raises(MotionError, match="a batch of 3"):
            run(unet, rows(batch(4), [0, 1, 2]))
        with pytest.raises(MotionError, match="already"), attach(unet, 4):
            pass
