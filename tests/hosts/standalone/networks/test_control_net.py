"""ControlNets in the standalone host: files of both namings, which frame is shown what, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

import motion
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.networks.control_net import ControlClip, ControlNet, open_control_net
from motion.settings.settings import Clip
from motion.video.read import read
from motion.video.structure import blur_structure
from motion.video.write import write
from motion.weights.formats.ldm import unet_name

CLIP = Clip(prompt="a cat", frames=3, steps=1, seed=1, size=Size(64, 64), cfg=2.0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture(scope="module")
def folder(host: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of random weights, also where published training starts from zero."""
    torch.manual_seed(4)
    model = ControlNetModel.from_unet(host.parts.unet)
    with torch.no_grad():
        for block in (
            *model.controlnet_down_blocks,
            model.controlnet_mid_block,
            model.controlnet_cond_embedding.conv_out,
        ):
            block.weight.normal_(std=0.3)
    path = tmp_path_factory.mktemp("control") / "folder"
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    """The same in one file, under the original names."""
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    path = folder.parent / "control_sd15_depth.safetensors"
    save_file({f"control_model.{_original(name)}": tensor for name, tensor in state.items()}, path)
    return path


def _original(name: str) -> str:
    kind, _, rest = name.partition(".")
    number, _, what = rest.partition(".")
    if kind == "controlnet_down_blocks":
        return f"zero_convs.{number}.0.{what}"
    if kind == "controlnet_mid_block":
        return f"middle_block_out.0.{rest}"
    if kind == "controlnet_cond_embedding":
        place, what = {"conv_in": 0, "conv_out": 14}.get(number), what
        if place is None:
            place, what = 2 * int(what.partition(".")[0]) + 2, what.partition(".")[2]
        return f"input_hint_block.{place}.{what}"
    return unet_name(name).removeprefix("model.diffusion_model.")


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of other pixels."""
    path, draw = tmp_path_factory.mktemp("hints") / "depth.webp", np.random.default_rng(3)
    write((draw.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(3)), path, 10, "")
    return path


def test_both_namings_are_the_same_network(host: Standalone, folder: Path, single: Path) -> None:
    first, second = (open_control_net(path, host.parts.unet).state_dict() for path in (folder, single))
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_a_frame_is_led_by_its_own_of_the_clip(host: Standalone, tiny: Path, folder: Path, movie: Path) -> None:
    """Also in windows; at a strength of 0, and after the scope, all is as without it."""
    module, seen = motion.load(tiny / "v3.safetensors"), []
    forward = ControlNetModel.forward

    def noted(self: Any, x: torch.Tensor, t: Any, *args: Any, controlnet_cond: torch.Tensor, **kwargs: Any) -> Any:
        seen.append(controlnet_cond)
        return forward(self, x, t, *args, controlnet_cond=controlnet_cond, **kwargs)

    clip = replace(CLIP, context_length=2, context_overlap=1, context_schedule="static")
    plain = host.render(clip, module)
    led = ControlClip.parse(f"{folder}={movie}=1.5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ControlNetModel, "forward", noted)
        drawn = host.render(clip, Networks(module, control_clips=[led]))
    hints = torch.from_numpy(read(movie).frames).movedim(-1, 1) / 255
    assert len(seen) == 15  # the module draws 16 frames; those beyond the clip are led by its last one
    for first, shown in enumerate(seen):
        assert (shown == hints[[min(first, 2), min(first + 1, 2)] * 2]).all()  # for both prompts
    assert np.abs(drawn.astype(int) - plain).mean() > 1
    assert ControlClip.parse(f"{folder}={movie}=0: 0, -1: 1").strengths(clip, 4).tolist() == [0, 0.5, 1, 1]
    off = host.render(clip, Networks(module, control_clips=[replace(led, strength="0: 0, -1: 0")]))
    assert (off == plain).all() and (host.render(clip, module) == plain).all()


def test_the_engine_attention_shows_all_frames(host: Standalone, tiny: Path, folder: Path, movie: Path) -> None:
    """Without temporal layers at work both engines draw the same."""
    module, led = motion.load(tiny / "v3.safetensors"), [ControlClip.parse(f"{folder}={movie}")]
    clips = [
        replace(CLIP, scale=0.0, context_length=2, context_overlap=1, context_engine=e)
        for e in ("denoiser", "attention")
    ]
    first, second = (host.render(clip, Networks(module, control_clips=led)).astype(int) for clip in clips)
    assert np.abs(first - second).max() <= 1


def test_the_command_draws_and_names_it(tiny: Path, single: Path, movie: Path, tmp_path: Path) -> None:
    files = ["--checkpoint", str(tiny / "sd15.safetensors"), "--control", f"{single}={movie}=0.8", "--prompt", "a cat"]
    options = ["--frames", "3", "--steps", "1", "--size", "64x64", "--structure-blur", "2", "--device", "cpu"]
    assert cli.main(["render", *files, *options, "--out", str(tmp_path / "out.webp")]) == 0
    said = read(tmp_path / "out.webp").parameters or ""
    assert "ControlNet: " in said and "control_sd15_depth" in said and "Motion structure blur: 2" in said


def test_with_a_step_cache_it_computes_what_is_computed_with(host: Standalone, folder: Path, movie: Path) -> None:
    """In steps that take over what is deep, the residual of the outermost skip connection alone, which is the same."""
    clip, calls = replace(CLIP, steps=5, sampler="euler", cache="light", cfg=1.0), Counter[str]()
    networks = Networks(control_clips=[ControlClip.parse(f"{folder}={movie}")])
    with pytest.MonkeyPatch.context() as patch:
        for name, kept in (("forward", ControlNetModel.forward), ("_first", ControlNet._first)):
            of = ControlNetModel if name == "forward" else ControlNet

            def counted(*args: Any, name: str = name, kept: Any = kept, **kwargs: Any) -> Any:
                calls[name] += 1
                return kept(*args, **kwargs)

            patch.setattr(of, name, counted)
        host.render(clip, networks)
    assert calls == {"forward": 4, "_first": 1}
    net = ControlNet.of(networks.control_clips[0], host.parts.unet, clip, 3)
    with torch.inference_mode():
        call = torch.randn(3, 4, 8, 8), torch.tensor(500), range(3), {"encoder_hidden_states": torch.randn(3, 7, 32)}
        whole, first = net.residuals(*call), net.residuals(*call, outermost=True)
    assert torch.equal(first[0], whole[0]) and len(first) == len(whole) and not any(map(torch.any, first[1:]))


def test_structure_is_blurred_by_halves() -> None:
    """Off is the frame itself; each time less of it is left, and its mean stays."""
    frame = np.random.default_rng(1).integers(0, 255, (64, 48, 3), np.uint8)
    assert blur_structure(frame, 0) is frame
    spreads = [blur_structure(frame, times).std() for times in range(8)]
    assert all(after < before for before, after in pairwise(spreads[:6]))
    assert abs(blur_structure(frame, 7).mean() - frame.mean()) < 3 and blur_structure(frame, 3).shape == frame.shape


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["input_hint_block.0.weight"], "does not fit this checkpoint"),
        (["task_embedding", "input_hint_block.0.weight"], "a ControlNet Union"),
        (["lllite_unet_down_blocks_1.conditioning1.0.weight"], "a ControlLLLite"),
        (["adapter.body.0.block1.weight"], "a T2I-Adapter"),
        (["anything.weight"], "and no ControlNet"),
    ],
)
def test_other_files_are_refused_by_name(host: Standalone, names: list[str], sentence: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(16, 3, 3, 3) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(MotionError, match=sentence):
        open_control_net(tmp_path / "other.safetensors", host.parts.unet)


def test_what_is_missing_is_named(folder: Path, movie: Path, tmp_path: Path) -> None:
    for text, named in (
        (f"{tmp_path / 'none.pth'}={movie}", "does not exist"),
        (str(folder), "is shown nothing"),
        (f"{folder}={movie.parent / 'none.mp4'}", "does not exist"),
        (f"{folder}={movie}=9", "the strength of the ControlNet"),
        (f"{folder}={movie}=@0: 1", "the strength of the ControlNet is '@0: 1': give a curve over frames alone"),
    ):
        with pytest.raises(MotionError, match=named):
            ControlClip.parse(text)
