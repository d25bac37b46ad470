"""`motion.ip_adapter`: the authors' numbers (tests/oracle), windows, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.models.ip_adapter.model import IPAdapter
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from tests.support.small import WIDTHS, far, random_model, run
from tests.support.trace import ERRORS, check_no_trace

ORACLE = Path(__file__).parents[1] / "oracle"
KINDS = {"base": "ip-adapter_sd15", "plus": "ip-adapter-plus_sd15", "full": "ip-adapter-full-face_sd15"}
FRAMES = 4
Numbers = dict[str, Tensor]
pytestmark = pytest.mark.usefixtures("inference")


def adapter(kind: str) -> IPAdapter:
    return motion.ip_adapter.load(ORACLE / f"{KINDS[kind]}.safetensors").float()


@pytest.fixture(scope="session")
def io(oracle_of: Callable[[str], Numbers]) -> Numbers:
    return oracle_of("ip_sd15_io")


@pytest.fixture
def inputs(io: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    return io["x"], io["t"].expand(FRAMES), io["c"]


def negative(io: Numbers, kind: str) -> Tensor:
    """What rows of the negative prompt are given."""
    zeros = torch.zeros_like(io["base_image_embeds"])
    return zeros if kind == "base" else io[f"{kind}_zero_image_embeds"].expand(FRAMES, -1, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens(kind: str, io: Numbers) -> None:
    model = adapter(kind)
    assert far(model.tokens(io[f"{kind}_image_embeds"]), io[f"{kind}_tokens"]) <= 1e-5
    assert far(model.tokens(negative(io, kind)[:1]), io[f"{kind}_uncond_tokens"]) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", ["0.6", "1"])
def test_it_agrees_with_its_authors(
    host: nn.Module, kind: str, scale: str, io: Numbers, inputs: tuple[Tensor, ...]
) -> None:
    each = io[f"{kind}_image_embeds"]
    expected = {"per_frame": each, "same": each[:1].expand_as(each)}
    if scale == "1":
        expected["uncond"] = negative(io, kind)
    for name, embeddings in expected.items():
        with motion.ip_adapter.attach(host, adapter(kind), embeddings, float(scale)):
            assert far(run(host, inputs), io[f"{kind}_scale{scale}_y_{name}"]) <= 1e-5, name


def test_scale_zero_is_bit_equal_to_none(host: nn.Module, io: Numbers, inputs: tuple[Tensor, ...]) -> None:
    plain = run(host, inputs)
    with motion.ip_adapter.attach(host, adapter("plus"), io["plus_image_embeds"], 0):
        assert torch.equal(run(host, inputs), plain)


@pytest.mark.parametrize("error", ERRORS)
def test_nothing_is_left(
    host: nn.Module, io: Numbers, inputs: tuple[Tensor, ...], error: type[BaseException] | None
) -> None:
    model, each = adapter("base"), io["base_image_embeds"]
    check_no_trace(host, inputs, lambda: motion.ip_adapter.attach(host, model, each), error)


def test_each_of_several_adapters_keeps_its_own_tokens(
    precise: nn.Module, io: Numbers, inputs: tuple[Tensor, ...]
) -> None:
    """The same two in the other order are the same sum."""
    outputs = []
    for kinds in (("base", "plus"), ("plus", "base")):
        first, second = (
            motion.ip_adapter.attach(precise, adapter(kind).double(), io[f"{kind}_image_embeds"]) for kind in kinds
        )
        with first, second:
            outputs.append(run(precise, inputs))
    with motion.ip_adapter.attach(precise, adapter("base").double(), io["base_image_embeds"]):
        alone = run(precise, inputs)
    assert far(*outputs) <= 1e-9
    assert far(outputs[0], alone) > 1e-3


def test_a_curve_is_the_scale_of_each_frame(precise: nn.Module, io: Numbers, inputs: tuple[Tensor, ...]) -> None:
    """Frames that do not move together: each is drawn as with its number, however the clip is cut."""
    call = tuple(torch.cat([part, part]) for part in inputs)
    embeddings = torch.cat([io["base_image_embeds"], negative(io, "base")])

    def drawn(scale: float | str, windows: Windows) -> Tensor:
        arrangement, model = Arrangement(windows), adapter("base").double()
        with (
            attach_windows(precise, arrangement),
            motion.ip_adapter.attach(precise, model, embeddings, scale, arrangement, FRAMES),
        ):
            return run(precise, call)

    numbers = [drawn(scale, Windows(FRAMES)) for scale in (0, 0.5, 1.0, 1.5)]
    cut = (Windows(FRAMES, 2, overlap=1, engine=engine) for engine in ("denoiser", "attention"))
    for windows in (Windows(FRAMES), *cut):
        found = drawn("0: 0, 1: 0.5, 3: 1.5", windows)
        for frame, number in enumerate(numbers):
            rows = [frame, FRAMES + frame]
            assert far(found[rows], number[rows]) < 1e-9
        assert torch.equal(drawn("0: 0.5, -1: 0.5", windows), drawn(0.5, windows)), "a constant curve is the number"
        with pytest.raises(MotionError, match="9 is not in a clip of 4 frames"):
            drawn("0: 1, 9: 0", windows)


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
@pytest.mark.parametrize("motion_first", [True, False])
def test_frames_keep_their_pictures_in_windows(
    precise: nn.Module, engine: str, motion_first: bool, io: Numbers, inputs: tuple[Tensor, ...]
) -> None:
    """With a motion module that adds nothing the windowed run is the whole one; each of two groups has its pictures."""
    call = tuple(torch.cat([part, part]) for part in inputs)
    embeddings = torch.cat([io["base_image_embeds"], negative(io, "base")])
    arrangement = Arrangement(Windows(FRAMES, 2, overlap=1, engine=engine), rows_at_once=2)
    model = adapter("base").double()
    with motion.ip_adapter.attach(precise, model, embeddings):
        whole = run(precise, call)

    scopes = [
        lambda: motion.attach(precise, random_model("v3").double(), FRAMES, 0.0, arrangement),
        lambda: motion.ip_adapter.attach(precise, model, embeddings, arrangement=arrangement),
    ]
    first, second = scopes if motion_first else scopes[::-1]
    with first(), second():
        assert far(run(precise, call), whole) <= 1e-9


def test_bin_files_hold_the_same(tmp_path: Path) -> None:
    ours = adapter("base").state_dict()
    nested: dict[str, Numbers] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in ours.items():
        half, _, rest = name.partition(".")
        nested[half][rest] = tensor
    torch.save(nested, tmp_path / "adapter.bin")
    theirs = motion.ip_adapter.load(tmp_path / "adapter.bin").state_dict()
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_what_does_not_fit_is_refused(host: nn.Module, io: Numbers, inputs: tuple[Tensor, ...], tmp_path: Path) -> None:
    model, each = adapter("base"), io["base_image_embeds"]
    other = UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=64, attention_head_dim=8)
    with pytest.raises(MotionError, match="takes one embedding of 40 channels"):
        motion.ip_adapter.attach(host, model, io["plus_image_embeds"]).__enter__()
    with (
        pytest.raises(MotionError, match="embeddings for 3 rows, and the UNet is called with 4"),
        motion.ip_adapter.attach(host, model, each[:3]),
    ):
        run(host, inputs)
    with pytest.raises(MotionError, match="choose an IP-Adapter for its base"):
        motion.ip_adapter.attach(other, model, each).__enter__()
    with pytest.raises(MotionError, match="no IP-Adapter"):
        motion.ip_adapter.load(ORACLE / "v3_mm.safetensors")
    faces = {**model.state_dict(), "ip_adapter.1.to_q_lora.down.weight": torch.zeros(4, 32)}
    torch.save(faces, tmp_path / "faceid.bin")
    with pytest.raises(MotionError, match=r"faceid\.bin is an IP-Adapter for faces"):
        motion.ip_adapter.load(tmp_path / "faceid.bin")
