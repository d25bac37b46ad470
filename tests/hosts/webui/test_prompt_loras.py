"""LoRAs that count differently in the frames of a WebUI's clip: taken from the host, and told to its text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.hosts.webui import prompt_loras
from motion.sampling.lora import Lora
from motion.settings.lora_tags import LoraTag
from motion.settings.tab import Tab

FRAMES = 5
LINES = "0: a cat <lora:ink:1> <lora:sea:0.5>\n-1: a dog <lora:sea:0.5> <lora:look:0.2>"


class Params:
    """The host's own way to hold a tag."""

    def __init__(self, items: list[str]) -> None:
        self.items = items


def reading(*prompts: str) -> Any:
    """A `p` whose host has read the tags of a batch's prompt, and of that of hires fix if there is one."""
    p: Any = SimpleNamespace(enable_hr=len(prompts) > 1, iteration=1, batch_size=FRAMES)
    for pass_, text in zip(("", "hr_"), prompts, strict=False):
        tags = [part.partition(">")[0] for part in text.split("<lora:")[1:]]
        setattr(p, f"{pass_}extra_network_data", {"lora": [Params(tag.split(":")) for tag in tags], "hypernet": []})
        setattr(p, f"{pass_}prompts", [text] * FRAMES)
        setattr(p, f"all_{pass_}prompts", ["another clip's"] * FRAMES + [text] * FRAMES)
    return p


def find(name: str) -> Lora:
    return Lora(name, "image", {}, {}, plain=True, tells_text=name == "ink")


def taken(p: Any) -> dict[str, list[float]]:
    found = prompt_loras.take(p, prompt_loras.asked(p), Tab(frames=FRAMES), find)
    return {lora.name: read_curve(weight).at(FRAMES) for lora, weight in found}


def left(p: Any, pass_: str = "") -> list[list[str]]:
    return [params.items for params in getattr(p, f"{pass_}extra_network_data")["lora"]]


def test_the_host_is_left_what_counts_the_same_in_all_frames() -> None:
    p = reading(LINES, LINES)
    assert taken(p) == {"ink": [1, 0.75, 0.5, 0.25, 0], "look": [0, 0.05, 0.1, pytest.approx(0.15), 0.2]}
    for pass_ in ("", "hr_"):
        assert left(p, pass_) == [["sea", "0.5"]]
        text = LINES.replace(" <lora:sea:0.5>", " ").replace(" <lora:look:0.2>", " ")
        assert [part.split() for part in getattr(p, f"{pass_}prompts")] == [text.split()] * FRAMES


def test_curves_are_taken_and_constant_ones_are_numbers() -> None:
    p = reading("a cat <lora:look:0: 1, -1: 0> <lora:ink:0: 0.7, -1: 0.7> <lora:sea:0.5:0.2>")
    assert taken(p) == {"look": [1, 0.75, 0.5, 0.25, 0]}
    assert left(p) == [["ink", "0.7"], ["sea", "0.5", "0.2"]]
    assert p.prompts == ["a cat   "] * FRAMES


def test_without_such_loras_the_prompts_are_what_the_host_has_made_of_them() -> None:
    p = reading("0: a <lora:ink:1>\n-1: b <lora:ink:1>")
    p.prompts = before = ["0: a \n-1: b "] * FRAMES
    assert taken(p) == {}
    assert p.prompts is before and left(p) == [["ink", "1"]]


def test_hires_fix_has_the_same_weights() -> None:
    with pytest.raises(MotionError, match="the prompt of hires fix gives LoRAs other weights"):
        taken(reading(LINES, LINES.replace("0.2", "0.3")))


class Network:
    """The host's LoRAs, which note what they are told to be."""

    def __init__(self) -> None:
        self.told: list[list[list[str]]] = []

    def activate(self, p: Any, params: list[Any]) -> None:
        self.told.append([each.items for each in params])
        p.all_prompts = [f"{text}<lora:set:1>" for text in p.all_prompts]


class Objects:
    def __init__(self, number: int) -> None:
        self.number = number

    def shallow_copy(self) -> Objects:
        return Objects(self.number + 1)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    own = Network()
    modules = {
        "extra_networks": SimpleNamespace(
            extra_network_registry={"lora": own},
            ExtraNetworkParams=Params,
            lookup_extra_networks=lambda data: {own: list(data["lora"])} if data.get("lora") else {},
        ),
        "shared": SimpleNamespace(
            sd_model=SimpleNamespace(forge_objects=Objects(0), forge_objects_after_applying_lora=Objects(1))
        ),
    }
    monkeypatch.setattr(prompt_loras, "host_module", modules.__getitem__)
    monkeypatch.setattr(prompt_loras, "need", lambda *names: None)
    yield own
    assert modules["shared"].sd_model.forge_objects.number in (0, 2)


@pytest.mark.parametrize("base", [[], [["sea", "0.5"]]])
def test_a_text_is_encoded_with_its_loras_beside_the_batchs(network: Network, base: list[list[str]]) -> None:
    p, data = SimpleNamespace(all_prompts=["a"]), {"lora": [Params(items) for items in base]} if base else {}
    with (
        pytest.raises(KeyboardInterrupt),
        prompt_loras.named_in_text(p, data, [LoraTag("ink", 0.4, 1.0)]) as known,
    ):
        assert [each.items for each in known["lora"]] == [*base, ["ink", "te=0.4", "unet=0"]]
        raise KeyboardInterrupt
    assert network.told == [[*base, ["ink", "te=0.4", "unet=0"]], base]
    assert p.all_prompts == ["a"]
    assert ("lora" in data) is bool(base)


def test_a_text_without_loras_is_the_hosts_affair(network: Network) -> None:
    data: dict[str, Any] = {}
    with prompt_loras.named_in_text(None, data, []) as known:
        assert known is data
    assert network.told == []
