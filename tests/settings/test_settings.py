"""The field table: what a clip accepts, and that its text reads back."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.fields.table import Image, Size, markdown
from motion.fields.weighted import Weighted
from motion.models.motion.architecture import SCHEDULES
from motion.settings.choices import (
    BETAS,
    FITS,
    FREEINIT_FILTERS,
    LOOPS,
    MOST_FRAMES,
    SAMPLERS,
    SEED_MODES,
    SPACINGS,
    TRAVELS,
)
from motion.settings.cross_frame import LEVELS, MODES
from motion.settings.layers import FurtherModule
from motion.settings.parameters import infotext, parse_infotext
from motion.settings.sections import SECTIONS
from motion.settings.settings import FIELDS, RANDOM_SEED, Clip
from motion.settings.tab import FORMATS, STARTS, TAB_FIELDS, Tab
from motion.techniques.replacement import HOLDS

SIDES = st.integers(8, 512).map(lambda n: 8 * n)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
PROMPTS = WORDS.map(str.strip).filter(lambda text: not text.startswith("Negative prompt:"))
DRAWN: dict[str, Any] = {
    "freeinit": st.integers(1, 5),
    "freeinit_filter": st.sampled_from(list(FREEINIT_FILTERS)),
    "travel": st.sampled_from(list(TRAVELS)),
    "steady_colours": st.floats(0, 1),
    "cross_frame": st.sampled_from(list(MODES)),
    "cross_frame_levels": st.lists(st.sampled_from(list(LEVELS)), min_size=1, unique=True),
    "field_x": st.floats(-128, 128),
    "field_t0": st.integers(1, 940),
    "cfg_first": st.floats(0, 100),
    "cfg_low": st.floats(0, 100),
    "rescale_cfg": st.floats(0, 1),
    "threshold": st.floats(0, 1),
    "temporal_guidance": st.floats(0, 10),
    "hold_keys": st.sampled_from(list(HOLDS)),
}
CLIPS = st.builds(
    Clip,
    prompt=PROMPTS,
    negative=PROMPTS,
    steps=st.integers(1, 100),
    sampler=st.sampled_from(list(SAMPLERS)),
    cfg=st.floats(1, 100),
    seed=st.integers(0, 2**63 - 1),
    size=st.builds(Size, SIDES, SIDES),
    clip_skip=st.integers(1, 12),
    frames=st.integers(1, MOST_FRAMES),
    fps=st.floats(0.1, 100),
    scale=st.floats(0, 10),
    loop=st.sampled_from(list(LOOPS)),
    seed_mode=st.sampled_from(list(SEED_MODES)),
    betas=st.sampled_from(list(BETAS)),
    adapter_scale=st.floats(0, 1),
    trigger_words=st.booleans(),
    key_scale=st.floats(0, 10),
    key_start=st.floats(0, 0.5),
    key_end=st.floats(0.5, 1),
    key_fit=st.sampled_from(list(FITS)),
    **DRAWN,
) | st.builds(Clip, spacing=st.sampled_from(list(SPACINGS)))
EFFECTS = st.floats(0, 10) | st.sampled_from(["0: 0.5", "@0: 1, @0.5: 2"])
CURVES = st.sampled_from(["0: 0.5", "@0: 1, @0.5: -2", 'audio("a, \\"b.wav", bass) * 0: 2'])
WEIGHTED = st.builds(Weighted, WORDS.filter(bool), st.floats(-10, 10) | CURVES)
TABS = st.builds(
    Tab,
    enabled=st.booleans(),
    module=WORDS,
    frames=st.integers(1, MOST_FRAMES),
    fps=st.floats(0.1, 100),
    formats=st.lists(st.sampled_from(list(FORMATS)), min_size=1, unique=True),
    start=st.sampled_from(list(STARTS)),
    fade_power=st.floats(0.1, 10),
    loras=st.lists(WEIGHTED, max_size=4),
    block_effects=st.lists(st.builds(Weighted, st.sampled_from(["mid", "up", "down.3"]), EFFECTS), max_size=2),
    modules=st.lists(
        st.builds(FurtherModule, WORDS.filter(bool), EFFECTS, st.floats(0, 0.5), st.floats(0.5, 1), WORDS), max_size=2
    ),
    adapter=WORDS,
    **DRAWN,
)


WRITTEN_FOR_0_1_0: dict[str, Any] = {
    **{"module": "v3", "loras": "pan:0.8", "adapter": "look", "adapter_scale": 0.5, "trigger_words": True},
    **{"frames": 24, "fps": 12, "scale": 1.1, "loop": "ping-pong", "seed_mode": "frame", "noise": "repeated"},
    **{"betas": "scaled_linear", "context_length": 16, "context_overlap": 8, "context_stride": 2},
    **{"context_schedule": "composite", "context_fuse": "overlap-linear", "context_engine": "attention"},
    **{"freeinit": 2, "freeinit_filter": "ideal", "steady_colours": 0.5, "travel": "spherical"},
    **{"key_frames": [{"frame": 0, "image": "0123456789abcdef", "encoder": "rgb", "strength": 1}], "key_scale": 2},
    **{"key_start": 0.1, "key_end": 0.9, "on_keys": 2, "off_keys": 0.5, "key_fit": "pad", "key_nearest": False},
    **{"colour_match": True, "formats": ["webp", "frames"], "start": "first", "fade_power": 2, "fade_scale": 16},
}
"""What a script sends that somebody wrote for the API of 0.1.0: each of its settings but the last frame, changed."""


def test_the_table_and_the_dataclass_name_the_same_settings() -> None:
    assert list(FIELDS) == [field.name for field in dataclasses.fields(Clip)]
    assert len({row.label for row in FIELDS.values()}) == len({row.flag for row in FIELDS.values()}) == len(FIELDS)
    assert Clip() == Clip(**{name: row.default for name, row in FIELDS.items()})
    assert list(TAB_FIELDS) == [field.name for field in dataclasses.fields(Tab)]
    assert Tab() == Tab(**{name: row.default for name, row in TAB_FIELDS.items()})


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert repr(Clip(frames=16.0).frames) == "16"  # type: ignore[arg-type]


def test_both_tables_call_the_same_setting_the_same() -> None:
    shared = FIELDS.keys() & TAB_FIELDS.keys()
    assert {"frames", "fps", "scale", "loop"} <= shared
    assert all(FIELDS[name] == TAB_FIELDS[name] for name in shared)
    keys = [row.key for row in TAB_FIELDS.values() if row.key]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("Motion ") for key in keys)


def test_what_was_written_for_0_1_0_is_taken() -> None:
    tab = Tab(**WRITTEN_FOR_0_1_0)
    assert [name for name in WRITTEN_FOR_0_1_0 if getattr(tab, name) == TAB_FIELDS[name].default] == []


def test_every_setting_of_the_tab_has_a_place() -> None:
    assert {row.group for row in TAB_FIELDS.values()} <= SECTIONS.keys()
    assert {name for row in TAB_FIELDS.values() for name in row.needs} <= TAB_FIELDS.keys()


def test_an_interface_may_hold_labels() -> None:
    shown = {name: row.format(row.default) for name, row in TAB_FIELDS.items()}
    assert (shown["loop"], shown["formats"]) == ("None", ["GIF"])
    assert Tab(**shown) == Tab()


def test_the_documentation_is_the_table() -> None:
    assert (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8").endswith(markdown(TAB_FIELDS))


def test_every_named_schedule_is_there() -> None:
    assert BETAS.keys() == {"auto", *SCHEDULES}


@given(st.one_of(CLIPS, TABS))
def test_every_written_value_is_read_back(settings: Clip | Tab) -> None:
    for name, row in (FIELDS if isinstance(settings, Clip) else TAB_FIELDS).items():
        if isinstance(row, Image):
            continue
        assert row.parse(row.write(getattr(settings, name))) == getattr(settings, name)


@given(CLIPS, st.dictionaries(st.sampled_from(["Model", "Model hash", "LoRA", "Version"]), WORDS.filter(str.strip)))
def test_infotext_is_read_back_whole(clip: Clip, extra: dict[str, str]) -> None:
    stripped = {key: value.strip() for key, value in extra.items()}
    assert parse_infotext(infotext(clip, stripped)) == (clip, stripped)


@given(st.lists(st.floats(0, 10), max_size=14))
def test_numbers_are_read_back_from_text_and_from_an_interface(items: list[float]) -> None:
    row = TAB_FIELDS["key_blocks"]
    assert row.parse(row.write(tuple(items))) == row.check(row.format(tuple(items))) == row.check(items) == tuple(items)


@given(st.text(st.sampled_from("0123.,- e_x"), max_size=12))
def test_any_text_is_numbers_or_one_sentence(text: str) -> None:
    row = TAB_FIELDS["key_blocks"]
    try:
        items = row.parse(text)
    except MotionError as error:
        assert re.match(r"key blocks is '.*' at number \d+: give numbers from 0 to 10", str(error))
    else:
        assert row.parse(row.write(items)) == items and all(0 <= item <= 10 for item in items)


@given(st.lists(WEIGHTED, max_size=4))
def test_weighted_names_are_read_back_from_text_and_from_an_interface(items: list[Weighted]) -> None:
    row = TAB_FIELDS["loras"]
    assert row.parse(row.write(tuple(items))) == tuple(items)
    assert row.check(row.format(tuple(items))) == row.check([list(item) for item in items]) == tuple(items)


def test_weighted_names_as_people_write_them() -> None:
    row = TAB_FIELDS["loras"]
    assert row.parse(" pan : 0.8,zoom,  C:\\x.safetensors:-1, ") == (
        ("pan", 0.8), ("zoom", 1.0), ("C:\\x.safetensors", -1.0)
    )  # fmt: skip
    assert row.parse('"a, b":2, "c:d", e:f:1, C:\\x') == (("a, b", 2), ("c:d", 1), ("e:f", 1), ("C:\\x", 1))
    assert row.parse('pan: "0:0,-1:1" , zoom:"1"') == (("pan", "0: 0, -1: 1"), ("zoom", 1.0))
    assert row.parse("") == row.parse(" ") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('pan:"0: 1, 8: 11"', "the weight of pan is '0: 1, 8: 11', which comes to 11: stay from -10 to 10"),
        ('zoom, pan:"0; 1"', "the weight of pan is '0; 1': at character 1"),
        ('pan:"12"', "the weight of pan is 12: give a number from -10 to 10, or a curve"),
    ],
)
def test_a_weight_that_is_no_curve_is_named(text: str, complaint: str) -> None:
    with pytest.raises(MotionError) as raised:
        TAB_FIELDS["loras"].parse(text)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([{"module": "a", "effect": "0: 11"}], "the effect of a is '0: 11', which comes to 11: stay from 0 to 10"),
        ([{"module": "a", "start": 0.8, "end": 0.2}], 'give a list of {"module": "name"'),
        ([{"module": ""}], 'give a list of {"module": "name"'),
        ([{"modul": "a"}], "modules is {'modul': 'a'}: give a list"),
        ('[{"module": "a"', "give a list"),
        ([{"module": "a", "effect": "0: 1, 16: 0"}], "16 is not in a clip of 16 frames"),
    ],
)
def test_a_further_module_that_is_none_is_refused(value: Any, complaint: str) -> None:
    with pytest.raises(MotionError) as raised:
        Tab(modules=value)
    assert complaint in str(raised.value)


def test_effects_are_of_blocks() -> None:
    assert Clip(block_effects='down.0: 0.5, up:"0:1,-1:0"').block_effects == (("down.0", 0.5), ("up", "0: 1, -1: 0"))
    with pytest.raises(MotionError, match=r"block effects is left: give blocks and their effects, from 0 to 10"):
        Clip(block_effects="left:1")


def test_a_weight_with_keys_that_are_not_in_the_clip_is_refused() -> None:
    with pytest.raises(MotionError, match="20 is not in a clip of 16 frames"):
        Tab(loras=(Weighted("pan", "0: 0, 20: 1"),))


@pytest.mark.parametrize("text", ["pan:abc", "zoom, pan:abc", "pan:abc, zoom:1", "C:\\x\\pan:abc"])
def test_a_weight_that_is_no_number_is_named(text: str) -> None:
    with pytest.raises(MotionError, match=r"the weight of .*pan is 'abc': give name:weight"):
        TAB_FIELDS["loras"].parse(text)


@given(st.text(st.sampled_from('ab:.,"\\ 0-e'), max_size=12))
def test_any_text_is_weighted_names_or_one_sentence(text: str) -> None:
    row = TAB_FIELDS["loras"]
    try:
        items = row.parse(text)
    except MotionError as error:
        assert "give name:weight" in str(error) or "at character" in str(error) or "at the end" in str(error)
    else:
        assert row.parse(row.write(items)) == items
        assert all(-10 <= end <= 10 for item in items for end in read_curve(item.weight).span)


def test_infotext_is_what_the_webui_reads() -> None:
    clip = Clip(prompt="a red circle,\nmoving", negative="grey", seed=7, sampler="dpmpp_2m", cfg=7.5)
    assert infotext(clip, {"Model": "my, model", "LoRA": ""}) == (
        "a red circle,\nmoving\n"
        "Negative prompt: grey\n"
        "Steps: 25, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 7, Size: 512x512, Clip skip: 1, "
        "Motion frames: 16, Motion FPS: 8, Motion scale: 1, Motion loop: None, Motion seed mode: Clip, "
        "Motion noise: Auto, Motion beta schedule: Auto, Motion context length: 0, Motion context overlap: 4, "
        "Motion context stride: 1, Motion context schedule: Uniform, Motion context fuse method: Pyramid, "
        "Motion context engine: Denoiser, Motion FreeInit: 1, Motion FreeInit filter: Butterworth, "
        "Motion steady colours: 0, "
        "Motion prompt travel: Linear, Motion adapter scale: 1, Motion trigger words: no, Motion module family: Auto, "
        'Zoom: 1, Spacing: Auto, Model: "my, model"'
    )
    assert parse_infotext(infotext(clip))[0] == clip


@given(st.text(max_size=40))
def test_any_size_text_is_a_size_or_one_sentence(text: str) -> None:
    try:
        size = FIELDS["size"].parse(text)
    except MotionError as error:
        assert "multiple of 8 from 64 to 4096" in str(error)
    else:
        assert FIELDS["size"].parse(str(size)) == size
        assert all(64 <= side <= 4096 and side % 8 == 0 for side in size)


@given(st.sampled_from(list(FIELDS)), st.text(max_size=60))
def test_no_text_raises_anything_but_motion_error(name: str, text: str) -> None:
    try:
        value = FIELDS[name].parse(text)
    except MotionError as error:
        assert str(error).startswith(name.replace("_", " "))
    else:
        assert FIELDS[name].check(value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 0),
        ("frames", 16.5),
        ("frames", True),
        ("frames", "16"),
        ("steps", 251),
        ("cfg", math.nan),
        ("cfg", math.inf),
        ("cfg", 0.5),
        ("fps", 0),
        ("scale", -1),
        ("seed", -2),
        ("seed", 2**63),
        ("size", (512,)),
        ("size", (512, 100)),
        ("size", (512, 32)),
        ("size", (512.0, 512)),
        ("size", 512),
        ("sampler", "plms"),
        ("loop", "round"),
        ("betas", None),
        ("prompt", None),
        ("prompt", "nul\0"),
        ("negative", "half a pair \ud83d"),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(name: str, value: Any) -> None:
    with pytest.raises(MotionError, match=f"^{name} is .*: (give|choose)"):
        Clip(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("enabled", 1), ("formats", ()), ("formats", "gif"), ("formats", ["gif", "avi"]), ("fade_power", 0)]
    + [("loras", value) for value in ("pan:99", "pan:-11", '"pan', ["pan"], [["pan"]], [["", 1]], [["pan", True]], 5)],
)
def test_a_bad_value_of_the_tab_is_named_with_its_remedy(name: str, value: Any) -> None:
    with pytest.raises(MotionError, match=f"^{name.replace('_', ' ')} is .*: (give|choose)"):
        Tab(**{name: value})


def test_lcm_has_few_steps() -> None:
    assert Clip(sampler="lcm", steps=100).steps == 100
    with pytest.raises(MotionError, match="LCM"):
        Clip(sampler="lcm", steps=101)


def test_a_random_seed_is_drawn_once_and_a_given_one_is_kept() -> None:
    drawn = Clip(seed=RANDOM_SEED).with_seed()
    assert drawn.seed >= 0
    assert drawn.with_seed() is drawn
    assert Clip(seed=5).with_seed().seed == 5


@pytest.mark.parametrize("text", ["", "only a prompt", "Steps: 25", "Steps: many, Size: 512x512", "a\nSeed: -7"])
def test_foreign_infotext_gives_a_clip_or_a_sentence(text: str) -> None:
    try:
        clip, _ = parse_infotext(text)
    except MotionError:
        return
    assert isinstance(clip, Clip)
