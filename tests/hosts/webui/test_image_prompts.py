"""IP-Adapters in ControlNet's units: each frame draws after its own mix of the pictures, in each window."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.webui.controlnet import units as controlnet
from motion.hosts.webui.controlnet.image_prompts import shares
from motion.hosts.webui.controlnet.inputs import Clip, Shown
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows

FRAMES, TOKENS, WIDTH, CHANNELS = 6, 4, 8, 12
LAYER, VALUES = "1_to_k_ip", "1_to_v_ip"
STRENGTHS = [0.0, 0.5, 1.0, 1.5, 2.0, 0.25]
KEYS = [0, 4]
WINDOWS = Windows(FRAMES, 4, overlap=2)


class ImageEmbed(NamedTuple):
    """As sd-webui-controlnet has it."""

    cond_emb: Tensor
    uncond_emb: Tensor

    def eval(self, cond_mark: Tensor) -> Tensor:
        mark = cond_mark[:, :, :, 0]
        return self.cond_emb * mark + self.uncond_emb * (1 - mark)


class Adapter(nn.Module):
    """What of an IP-Adapter both families use: tokens of a picture, and a layer's keys."""

    def __init__(self) -> None:
        super().__init__()
        self.to_kvs = nn.ModuleDict({name: nn.Linear(WIDTH, CHANNELS, bias=False) for name in (LAYER, VALUES)})
        self.ip_layers = self

    def get_image_emb(self, picture: Tensor) -> ImageEmbed:
        return ImageEmbed(picture, torch.full_like(picture, -0.5))


class Network(nn.Module):
    """sd-webui-controlnet's, with the keys of one layer, or its values, for its answer."""

    def __init__(self, pictures: list[Tensor]) -> None:
        super().__init__()
        self.ipadapter, self.cache = Adapter(), dict[str, Tensor]()
        conds = torch.stack(pictures).mean(0)
        self.image_emb = ImageEmbed(conds, torch.full_like(conds, -0.5))

    def call_ip(self, key: str, feat: Tensor, device: torch.device) -> Tensor:
        if key not in self.cache:
            self.cache[key] = self.ipadapter.to_kvs[key](feat).to(device)
        return self.cache[key]

    @torch.no_grad()
    def forward(self, cond_mark: Tensor, layer: str = LAYER) -> Tensor:
        return self.call_ip(layer, self.image_emb.eval(cond_mark), cond_mark.device)


def closed(windows: Windows) -> Clip:
    return Clip(windows.frames, FRAMES, closed=windows.closed)


def wanted(
    adapter: Adapter, pictures: list[Tensor], clip: Clip, frame: int, positive: bool, layer: str = LAYER
) -> Tensor:
    """The keys of one frame by itself, or its values."""
    negative = torch.full_like(pictures[0], -0.5)
    own = sum(share * each for share, each in zip(shares(clip, KEYS)[frame], pictures, strict=True))
    with torch.no_grad():
        keys: Tensor = adapter.to_kvs[layer](own if positive else negative)[0]
    return keys


def processing(script: Any) -> Any:
    return SimpleNamespace(
        scripts=SimpleNamespace(alwayson_scripts=[script]), script_args=(), script=script, script_args_value=()
    )


def test_shares_go_from_key_to_key_and_stay() -> None:
    assert shares(Clip(7, 6), [1, 3]).tolist() == [[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1], [0, 1], [0, 1]]
    around = shares(Clip(4, 4, closed=True), [0, 2])
    assert around.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5]]


@pytest.mark.parametrize("windows", [Windows(FRAMES), WINDOWS, Windows(FRAMES, 4, overlap=2, closed=True)])
@pytest.mark.parametrize("strengths", [None, STRENGTHS])
def test_the_extensions_networks_are_given_each_frames_mix(windows: Windows, strengths: list[float] | None) -> None:
    """Also where the prompt and the negative prompt are calls of their own, and as before afterwards."""
    pictures = [torch.randn(1, TOKENS, WIDTH) for _ in KEYS]
    network, arrangement, clip = Network(pictures), Arrangement(windows), closed(windows)
    kind = SimpleNamespace(name="IPAdapter")
    param = SimpleNamespace(control_model=network, control_model_type=kind, hint_cond=tuple(pictures))
    script = SimpleNamespace(
        title=lambda: "ControlNet", args_from=0, args_to=0, enabled_units=[0],
        latest_network=SimpleNamespace(control_params=[param]),
    )  # fmt: skip
    before = network(torch.ones(2, 1, 1, 1))
    with ExitStack() as undo:
        shown = Shown(Path(), strengths, mixed=shares(clip, KEYS))
        controlnet.hints_by_frame(processing(script), arrangement, undo, [shown])
        for window in windows.at(0):
            arrangement.take(window)
            for marks in ([1, 0], [1], [0]):
                positive = torch.tensor(marks).repeat_interleave(len(window))
                for layer in (LAYER, VALUES):
                    rows = network(positive.float()[:, None, None, None], layer)
                    for row, frame, mark in zip(rows, window * len(marks), positive, strict=True):
                        counts = strengths[frame] if strengths and layer == VALUES else 1
                        own = wanted(network.ipadapter, pictures, clip, frame, bool(mark), layer)
                        assert torch.allclose(row, counts * own, atol=1e-6)
    assert (network(torch.ones(2, 1, 1, 1)) == before).all()
    assert not {"call_ip"} & vars(network).keys()
    param.control_model_type = SimpleNamespace(name="T2I_StyleAdapter")
    with ExitStack() as undo, pytest.raises(MotionError, match="no IP-Adapter"):
        controlnet.hints_by_frame(processing(script), arrangement, undo, [Shown(Path(), mixed=shares(clip, KEYS))])


class CrossAttentionPatch:
    """The Forge family's, with the weighted keys of its adapters for its answer."""

    def __init__(self, cond: Tensor, uncond: Tensor, adapter: Adapter, unfold: bool = False) -> None:
        self.conds, self.unconds, self.ipadapters, self.unfold_batch = [cond], [uncond], [adapter], [unfold]
        self.weights: list[Any] = [0.8]

    def set_new_condition(self, cond: Tensor, uncond: Tensor, adapter: Adapter, unfold: bool = False) -> None:
        for values, value in zip(
            (self.conds, self.unconds, self.ipadapters, self.unfold_batch), (cond, uncond, adapter, unfold), strict=True
        ):
            values.append(value)
        self.weights.append(0.8)

    @torch.no_grad()
    def __call__(self, n: Tensor, context: Any, value: Any, options: Any) -> Tensor:
        each, made = len(n) // len(options["cond_or_uncond"]), []
        assert all(isinstance(weight, float) for weight in self.weights), "as reForge's asserts"
        for weight, cond, uncond, adapter, unfold in zip(
            self.weights, self.conds, self.unconds, self.ipadapters, self.unfold_batch, strict=True
        ):
            both = [adapter.to_kvs[LAYER](tokens) for tokens in (cond, uncond)]
            both = both if unfold and len(cond) > 1 else [keys.repeat(each, 1, 1) for keys in both]
            made.append(torch.cat([both[number] for number in options["cond_or_uncond"]]) * weight)
        return torch.stack(made)


class IPAdapterPatcher:
    """It puts the keys of what it is shown into one layer's cross-attention: the red of a picture, in each token."""

    def __init__(self) -> None:
        self.adapter, self.seen = Adapter(), list[Any]()

    def process_before_every_sampling(self, process: Any, cond: Any, mask: Any) -> None:
        image = cond["image"]
        self.seen.append(image.shape)
        tokens = image[:, 0, 0, :1, None].expand(-1, TOKENS, WIDTH)
        found = process.sd_model.forge_objects.unet.model_options["transformer_options"]["patches_replace"]["attn2"]
        given = tokens, torch.full_like(tokens, -0.5), self.adapter
        if "layer" in found:
            found["layer"].set_new_condition(*given)
        else:
            found["layer"] = CrossAttentionPatch(*given)


def unet_of(process: Any) -> Callable[..., Any]:
    patch: Callable[..., Any] = process.sd_model.forge_objects.unet.model_options["transformer_options"][
        "patches_replace"
    ]["attn2"]["layer"]
    return patch


@pytest.mark.parametrize("windows", [Windows(FRAMES), WINDOWS])
@pytest.mark.parametrize("strengths", [None, STRENGTHS])
def test_the_built_in_ones_are_given_each_frames_mix(
    windows: Windows, strengths: list[float] | None, tmp_path: Path
) -> None:
    """Beside another one with one picture."""
    for number in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * number + 50, np.uint8)).save(tmp_path / f"{number}.png")
    process, arrangement, clip = SimpleNamespace(), Arrangement(windows), closed(windows)
    options = {"transformer_options": {"patches_replace": {"attn2": {}}}}
    process.sd_model = SimpleNamespace(forge_objects=SimpleNamespace(unet=SimpleNamespace(model_options=options)))
    one = {"clip_vision": 1, "image": torch.full((1, 8, 8, 3), 0.9)}
    mixed, plain = (SimpleNamespace(model=IPAdapterPatcher(), control_cond=one) for _ in range(2))

    def hand_over(p: Any, unit: Any, params: Any) -> None:
        params.model.process_before_every_sampling(p, dict(params.control_cond), None)

    script = SimpleNamespace(
        title=lambda: "ControlNet", args_from=0, args_to=0, current_params={0: mixed, 1: plain},
        process_unit_after_click_generate=None, get_enabled_units=lambda units: [0, 1],
        process_unit_before_every_sampling=hand_over,
    )  # fmt: skip
    shown = [Shown(tmp_path, strengths, mixed=shares(clip, KEYS)), None]
    pictures = [torch.full((1, TOKENS, WIDTH), (100 * number + 50) / 255) for number in range(2)]
    with ExitStack() as undo:
        controlnet.hints_by_frame(processing(script), arrangement, undo, shown)
        for params in (mixed, plain):
            script.process_unit_before_every_sampling(process, None, params)
        assert mixed.model.seen == [(2, 8, 8, 3)] and plain.model.seen == [(1, 8, 8, 3)]
        for window in windows.at(0):
            arrangement.take(window)
            for told in ([0, 1], [0]):
                rows, same = unet_of(process)(
                    torch.zeros(len(told) * len(window), 1), None, None, {"cond_or_uncond": told}
                )
                for row, frame, negative in zip(rows, window * len(told), np.repeat(told, len(window)), strict=True):
                    own = wanted(mixed.model.adapter, pictures, clip, frame, not negative)
                    counts = 0.8 * (strengths[frame] if strengths else 1)
                    assert torch.allclose(row, counts * own, atol=1e-6)
                assert (same[: len(window)] == same[0]).all()
                assert unet_of(process).weights == [0.8, 0.8]  # type: ignore[attr-defined]
    assert script.process_unit_before_every_sampling is hand_over
    for cond in ({"clip_vision": None}, {"clip_vision": 1, "insightface": 1}, [one], torch.zeros(1)):
        mixed.control_cond = cond
        with ExitStack() as undo, pytest.raises(MotionError, match="takes one picture for a clip"):
            controlnet.hints_by_frame(processing(script), arrangement, undo, shown)


@pytest.mark.parametrize(
    ("lines", "keys", "of", "listed"),
    [("", 3, [0, 1, 2], [1, *[0.5] * 5]), ("\nkeyframe:2,-1", 2, [2, 5], [1, 1, 1, 5 / 6, 4 / 6, 0.5])],
)
def test_a_folder_has_a_picture_for_each_key_or_frame(
    tmp_path: Path, lines: str, keys: int, of: list[int], listed: list[float]
) -> None:
    """Strengths are of frames, or of key frames and then mixed as their pictures are."""
    for number in range(keys):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    unit = {"enabled": True, "module": "ip-adapter_clip_sd15", "batch_images": f"{tmp_path}{lines}"}
    script = SimpleNamespace(title=lambda: "ControlNet", args_from=0, args_to=1, enabled_units=[0])
    p = processing(script)
    p.script_args = (unit,)
    with ExitStack() as undo:
        (shown,) = controlnet.units_per_frame(p, Clip(FRAMES, FRAMES), undo)
        assert shown is not None and shown.mixed is not None and shown.strengths is None
        assert (shown.mixed == shares(Clip(FRAMES, FRAMES), of)).all()
        made = p.script_args_value[0]
        assert made["input_mode"] == "simple" and not made.get("animatediff_batch")
        assert [np.asarray(Image.open(each["image"]))[0, 0, 0] for each in made["image"]] == list(range(keys))
    for text, strengths in {"1,0.5": listed, "0: 1, 5: 0": [1, 0.8, 0.6, 0.4, 0.2, 0]}.items():
        p.script_args = ({**unit, "batch_images": f"{unit['batch_images']}\nstrength:{text}"},)
        with ExitStack() as undo:
            (shown,) = controlnet.units_per_frame(p, Clip(FRAMES, FRAMES), undo)
            assert shown is not None and shown.strengths == pytest.approx(strengths)
            assert (shown.mixed == shares(Clip(FRAMES, FRAMES), of)).all()
