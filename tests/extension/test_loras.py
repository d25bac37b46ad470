"""Motion LoRAs in a WebUI: from the tab and from the prompt to the scope of the job's sampling."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import motion
from motion.errors import MotionError
from motion.hosts.webui import sampling
from motion.hosts.webui.prompt import named_loras
from motion.hosts.webui.sampling import Sampling
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.sampling.windows import Windows
from motion.settings.tab import TAB_FIELDS, Tab
from motion.weights.formats.lora import TRIGGER
from motion.weights.library import Entry

TEMPORAL = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
SPATIAL = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


def lora_file(path: Path, parent: str, rank: int = 2, **metadata: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    tensors = {f"{parent}.processor.to_q_lora.down.weight": torch.ones(rank, 32)}
    save_file({**tensors, f"{parent}.processor.to_q_lora.up.weight": torch.ones(32, rank)}, path, metadata)
    return path


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`motion.extension.models` in a host whose models folder is `tmp_path`."""
    lora_file(tmp_path / "motion/pan.safetensors", TEMPORAL, **{TRIGGER: "slow pan"})
    lora_file(tmp_path / "motion/look.safetensors", SPATIAL)
    lora_file(tmp_path / "Lora/zoom.safetensors", TEMPORAL)
    lora_file(tmp_path / "Lora/v3_adapter.safetensors", SPATIAL)
    kohya = {"lora_unet_conv_in.lora_down.weight": torch.ones(1, 4, 3, 3)}
    save_file({**kohya, "lora_unet_conv_in.lora_up.weight": torch.ones(32, 1, 1, 1)}, tmp_path / "Lora/ink.safetensors")
    opts = SimpleNamespace(data={}, use_downcasted_alpha_bar=False, sd_noise_schedule="Default")
    shared = SimpleNamespace(
        cmd_opts=SimpleNamespace(lora_dir=str(tmp_path / "Lora")), opts=opts, sd_model=None, device="cpu"
    )
    hosts = {"sd_models": SimpleNamespace(), "shared": shared, "paths": SimpleNamespace(models_path=str(tmp_path))}
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in hosts.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", content)  # type: ignore[arg-type]
    from motion.extension import models

    return models


def test_the_tab_names_files_of_both_folders(models: Any) -> None:
    with_lora = models.loras(Tab(loras="pan:0.8, zoom:-1", adapter="look", adapter_scale=0.5))
    assert [(lora.name, lora.target, weight) for lora, weight in with_lora] == [
        ("pan", "motion", 0.8), ("zoom", "motion", -1.0), ("look", "image", 0.5)
    ]  # fmt: skip
    assert models.loras(Tab(loras="pan:0, nobody:0", adapter="look", adapter_scale=0)) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loras": "look:1"}, "look.safetensors is a domain adapter, and not a motion LoRA"),
        ({"adapter": "pan"}, "pan.safetensors is a motion LoRA, and not a domain adapter"),
        ({"adapter": "ink"}, "ink.safetensors changes lora_unet_conv_in.*<lora:"),
        ({"loras": "pam:1"}, "'pam' is none of the motion LoRAs and adapters: give one such as pan"),
    ],
)
def test_a_file_in_the_wrong_place_is_refused(models: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MotionError, match=words):
        models.loras(Tab(**settings))


def test_a_prompts_loras_are_taken_where_the_host_finds_no_layer(models: Any) -> None:
    found = models.prompt_loras(named("zoom:0.8", "ink:1:lbw=MIDD", "alias:x", "v3_adapter:0.3", "pan"))
    assert [(lora.name, weight) for lora, weight in found] == [("zoom", 0.8), ("v3_adapter", 0.3)]
    with pytest.raises(MotionError, match="the LoRA zoom with lbw, which is not known"):
        models.prompt_loras(named("zoom:1:lbw=MIDD"))


def named(*texts: str, kind: str = "lora") -> Any:
    """The LoRAs of a prompt as the host reads it."""
    split = [text.split(":") for text in texts]
    parameters = [
        SimpleNamespace(
            positional=[item for item in items if "=" not in item], named=dict(i.split("=") for i in items if "=" in i)
        )
        for items in split
    ]
    return named_loras({kind: parameters})


def test_the_host_is_asked_for_loras_alone() -> None:
    assert [name for name, _ in named("a", "b:1")] == [name for name, _ in named("a", "b", kind="lyco")] == ["a", "b"]
    assert list(named("a", kind="hypernet")) == list(named_loras({})) == []


def test_infotext_says_what_is_set_and_nothing_empty(models: Any) -> None:
    from motion.extension.infotext import PASTED, to_infotext

    entry = Entry("v3", lora_file(Path(models.folders()[0]) / "v3.safetensors", TEMPORAL))
    tab = Tab(module="v3", loras="pan:0.8, zoom:-1", adapter="look", adapter_scale=0.5)
    texts = to_infotext(tab, entry, is_img2img=False)
    assert texts["Motion LoRA"] == "pan:0.8, zoom:-1" and texts["Motion adapter"] == "look"
    assert Tab(**{name: PASTED[name](texts) for name in ("loras", "adapter", "adapter_scale")}) == Tab(
        loras=tab.loras, adapter="look", adapter_scale=0.5
    )
    texts = to_infotext(Tab(module="v3"), entry, is_img2img=False)
    assert all(texts.values()) and TAB_FIELDS["loras"].key not in texts
    assert (PASTED["loras"](texts), PASTED["adapter"](texts)) == ("", "")


@dataclass
class ImageRNG:
    """What the host keeps of its noise."""

    shape: tuple[int, ...]
    seeds: list[int]
    subseeds: list[int]
    subseed_strength: float


@pytest.mark.parametrize("fails", [False, True])
def test_sampling_wears_the_tabs_and_the_prompts_loras(
    models: Any, unet: nn.Module, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    model = MotionModel(Architecture.of_unet("v3", (32, 32, 64, 64))).requires_grad_(False)
    seen: list[Any] = []

    @contextmanager
    def attach(unet: nn.Module, model: MotionModel, loras: Any, *_: Any) -> Iterator[None]:
        seen.append([(lora.name, weight) for lora, weight in loras])
        yield

    monkeypatch.setattr(motion.sampling.lora, "attach", attach)
    monkeypatch.setattr(sampling, "loaded_base", lambda: "sd15")
    host = SimpleNamespace(
        unet=lambda: unet, vae=nn.Identity, put_schedule=lambda alphas, undo: None, free_memory=lambda: None
    )
    monkeypatch.setattr(sampling, "host", lambda: host)
    module = SimpleNamespace(ImageRNG=ImageRNG, create_sampler=lambda name, model: None)
    for name in ("sd_models", "sd_samplers", "rng"):
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)  # type: ignore[arg-type]
    job = Sampling(Tab(), model, Windows(4), models.loras(Tab(loras="pan:0.8")))
    job.of_prompt = lambda: models.prompt_loras(named("zoom:0.5"))
    if fails:
        (Path(models.host_folders()[0]) / "zoom.safetensors").write_bytes(b"broken")
    with job.scope(SimpleNamespace(sampler=None, prompt="", rng=ImageRNG((4, 8, 8), [1], [], 0))):
        assert seen == [[("pan", 0.8)] if fails else [("pan", 0.8), ("zoom", 0.5)]]
    assert not unet._forward_pre_hooks


def test_a_lora_without_some_of_its_layers_is_a_comment_of_the_job(
    models: Any, unet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {}
    for block in (TEMPORAL, TEMPORAL.replace("down_blocks.0", "mid_block")):
        tensors[f"{block}.to_q.lora_A.weight"] = torch.ones(2, 32)
        tensors[f"{block}.to_q.lora_B.weight"] = torch.ones(32, 2)
    save_file(tensors, Path(models.folders()[0]) / "roll.safetensors")
    comments: list[str] = []
    monkeypatch.setattr(Sampling, "_attach", lambda self: self.loras)
    monkeypatch.setattr(Sampling, "_hear_of_steps", lambda self, undo: None)
    for name in ("sd_models", "rng"):
        monkeypatch.setitem(sys.modules, f"modules.{name}", SimpleNamespace(ImageRNG=ImageRNG))  # type: ignore[arg-type]
    model = MotionModel(Architecture.of_unet("v3", (32, 32, 64, 64)))
    job = Sampling(Tab(), model, Windows(4), models.loras(Tab(loras="roll, pan")))
    with job.scope(
        SimpleNamespace(sampler=None, prompt="", rng=ImageRNG((4, 8, 8), [1], [], 0), comment=comments.append)
    ):
        assert len(comments) == 1 and "roll changes a middle block" in comments[0]
