"""`motion.one_shot`: the numbers of Tune-A-Video's authors, how a model begins, windows, and that nothing is left."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.models import sites
from motion.models.one_shot import OneShotModel
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.weights import kinds
from tests.conftest import ORACLE
from tests.support.small import batch, far, run
from tests.support.trace import ERRORS, check_no_trace

FILE = ORACLE / "techniques" / "tuneavideo.safetensors"
SHAPES = ORACLE / "techniques" / "tuneavideo_published_shapes.json.gz"
OracleOf = Callable[[str], dict[str, Tensor]]
attach = motion.one_shot.attach


@pytest.fixture(scope="module")
def tuned() -> OneShotModel:
    return motion.one_shot.load(FILE).float()


def projections(model: OneShotModel) -> list[Tensor]:
    """What the temporal attention of each block leaves through."""
    return [block.attn_temp.to_out[0].weight for block in model.blocks.values()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "clip_norms"), [("y", True), ("y_framewise_groupnorm", False), ("y_temporal_out_weight_zero", True)]
)
def test_it_agrees_with_its_authors(
    host: nn.Module, tuned: OneShotModel, oracle_of: OracleOf, name: str, clip_norms: bool
) -> None:
    io, model = oracle_of("techniques/tuneavideo_unet"), copy.deepcopy(tuned)
    if name.endswith("weight_zero"):
        for weight in projections(model):
            weight.zero_()
    inputs = rearrange(io["x"], "b c f h w -> (b f) c h w"), io["t"].expand(10), io["c"].repeat_interleave(5, 0)
    with torch.no_grad(), attach(host, model, 5, clip_norms=clip_norms):
        assert far(run(host, inputs), rearrange(io[name], "b c f h w -> (b f) c h w")) <= 1e-5


def test_a_step_of_its_tuning_has_the_authors_gradients(
    unet: UNet2DConditionModel, tuned: OneShotModel, oracle_of: OracleOf
) -> None:
    io = oracle_of("techniques/tuneavideo_training")
    model = copy.deepcopy(tuned).thaw()
    noisy, noise = (rearrange(io[name], "b c f h w -> (b f) c h w") for name in ("noisy", "noise"))
    with attach(unet, model, 3):
        loss = (unet(noisy, io["t"], io["c"].expand(3, -1, -1)).sample - noise).square().mean()
        loss.backward()
    assert float(loss.detach()) == pytest.approx(float(io["loss"]), rel=1e-5)
    gradients = {name: weight.grad for name, weight in model.named_parameters()} | fused_gradients(model)
    checked = [name for name in io if name.startswith("grad.")]
    for name in checked:
        found = gradients[name.removeprefix("grad.")]
        assert found is not None and far(found, io[name]) <= 1e-4, name
    assert len(checked) == 2 * 7
    norm = torch.stack([weight.grad.norm() for weight in model.parameters() if weight.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(io["grad_norm"]), rel=1e-5)
    assert all(weight.grad is None for weight in unet.parameters())


def fused_gradients(model: OneShotModel) -> dict[str, Tensor | None]:
    """Those of queries, keys and values along the frames, which are one parameter here."""
    found: dict[str, Tensor | None] = {}
    for name, block in model.blocks.items():
        assert block.attn_temp.to_qkv.grad is not None
        parts = zip("qkv", block.attn_temp.to_qkv.grad.chunk(3), strict=True)
        found |= {f"{name}.attn_temp.to_{letter}.weight": part for letter, part in parts}
    return found


@pytest.mark.usefixtures("inference")
def test_a_new_one_is_the_image_model_whose_frames_read_others(host: nn.Module) -> None:
    model, inputs = OneShotModel.of_blocks(sites.spatial_blocks(host)), batch(4, groups=2)
    with motion.cross_frame.attach(host, 4, "sparse-causal", clip_norms=True):
        wanted = run(host, inputs)
    with attach(host, model, 4):
        assert far(run(host, inputs), wanted) <= 2e-6


@pytest.mark.usefixtures("inference")
def test_frames_move_as_one_and_have_no_order_behind_the_first(unet: nn.Module, tuned: OneShotModel) -> None:
    """Temporal attention knows no positions; where self-attention reads each frame itself, all may change places."""
    precise, model, order = copy.deepcopy(unet).double(), copy.deepcopy(tuned).double(), [2, 0, 3, 1]
    x, time, text = batch(4)
    inputs = x.double(), time, text.double()
    layer = sites.spatial_blocks(precise)["mid_block.attentions.0.transformer_blocks.0"]
    seen: list[Tensor] = []
    with attach(precise, model, 4):
        hook = next(reversed(layer._forward_hooks.values()))
        run(precise, inputs)
        tokens = torch.randn(4, 6, 64, dtype=torch.float64)
        seen = [hook(layer, (), part) for part in (tokens, tokens[order])]
    assert far(seen[1], seen[0][order]) <= 1e-9 and far(seen[0], tokens) > 1e-3


@pytest.mark.usefixtures("inference")
def test_a_window_sees_the_first_and_the_previous_frame_and_no_others(unet: nn.Module, tuned: OneShotModel) -> None:
    arrangement = Arrangement(Windows(6, 3, overlap=0, schedule="static", fuse="flat"))
    x, time, text = batch(6)
    with attach_windows(unet, arrangement), attach(unet, tuned, 6, arrangement=arrangement):
        plain = run(unet, (x, time, text))
        for changed in range(3):
            other = x.clone()
            other[changed] += 1
            assert run(unet, (other, time, text))[3:].equal(plain[3:]) is (changed == 1)
    with attach(unet, tuned, 3):
        assert far(plain[:3], run(unet, (x[:3], time[:3], text[:3]))) <= 2e-6


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("error", ERRORS[:2])
def test_nothing_is_left(host: nn.Module, tuned: OneShotModel, error: type[BaseException] | None) -> None:
    check_no_trace(host, batch(4), lambda: attach(host, tuned, 4), error)


def test_the_authors_whole_files_are_read(tmp_path: Path, oracle_of: OracleOf, tuned: OneShotModel) -> None:
    whole = oracle_of("unet") | oracle_of("techniques/tuneavideo")
    path = tmp_path / "diffusion_pytorch_model.bin"
    torch.save(whole, path)
    found = motion.one_shot.load(path).state_dict()
    assert found.keys() == tuned.state_dict().keys()
    assert all(tensor.equal(found[name]) for name, tensor in tuned.state_dict().items())


def test_the_published_width_fits_sd15() -> None:
    shapes = json.loads(gzip.decompress(SHAPES.read_bytes()))
    assert len(shapes) == 798
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        unet = UNet2DConditionModel(cross_attention_dim=768)
        model = OneShotModel(
            {name: block.attn1.to_q.out_features for name, block in sites.spatial_blocks(unet).items()}  # type: ignore[union-attr]
        )
    assert kinds.detect(state).name == "Tune-A-Video"
    assert {name: tensor.shape for name, tensor in model.state_dict().items()}.items() <= {
        name: tensor.shape for name, tensor in state.items()
    }.items()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda state: state.pop("mid_block.attentions.0.transformer_blocks.0.norm_temp.bias"),
            "norm_temp.bias' is missing",
        ),
        (
            lambda state: state.clear() or state.update(conv=torch.ones(1)),
            "is a weights file of unknown kind, and no Tune",
        ),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, oracle_of: OracleOf, damage: Callable[..., object], told: str) -> None:
    state = oracle_of("techniques/tuneavideo")
    damage(state)
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(MotionError, match=told):
        motion.one_shot.load(tmp_path / "damaged.safetensors")


def test_another_unet_and_a_second_scope_are_refused(unet: nn.Module, tuned: OneShotModel) -> None:
    other = OneShotModel(dict.fromkeys(tuned.names, 8))
    with pytest.raises(MotionError, match="16 blocks of 8 channels"), attach(unet, other, 4):
        pass
    with (
        motion.cross_frame.attach(unet, 4, "full"),
        pytest.raises(MotionError, match="cross-frame attention already"),
        attach(unet, tuned, 4),
    ):
        pass
