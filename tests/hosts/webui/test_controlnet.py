"""ControlNet's units on a clip, with stand-ins for that extension's objects."""

from __future__ import annotations

from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.webui.controlnet import units as controlnet
from motion.hosts.webui.controlnet.inputs import Clip, Shown
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.video.write import write

FRAMES = 4
CLIP = Clip(FRAMES, FRAMES)


class Mode(Enum):
    SIMPLE = "simple"
    BATCH = "batch"
    MERGE = "merge"


class Network(nn.Module):
    def forward(self, x: Tensor, hint: Tensor) -> Tensor:
        return hint


def processing(*units: Any, hints: int = 0) -> Any:
    network = Network()
    param = SimpleNamespace(control_model=network, hint_cond=torch.arange(hints)[:, None, None, None])
    script = SimpleNamespace(
        title=lambda: "ControlNet", args_from=1, args_to=1 + len(units), enabled_units=list(units),
        latest_network=SimpleNamespace(control_params=[param]), network=network,
    )  # fmt: skip
    args = ("other", *units, "more")
    return SimpleNamespace(
        scripts=SimpleNamespace(alwayson_scripts=[script]), script=script, script_args=args, script_args_value=args
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "hints"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(images / f"{number}.png")
    return images


def shades(folder: Path) -> list[int]:
    """The red of each picture, by name."""
    return [np.asarray(Image.open(path))[0, 0, 0] for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_a_batch_input_becomes_one_image_per_frame_for_this_job_only(kind: Any, folder: Path) -> None:
    mode = "batch" if kind is dict else Mode.BATCH
    batch = kind(enabled=True, input_mode=mode, batch_images=str(folder))
    single = kind(enabled=True, input_mode="simple", image="x", batch_images="")
    p = processing(single, batch)
    with ExitStack() as undo:
        controlnet.units_per_frame(p, CLIP, undo)
        other, first, second, more = p.script_args_value
        assert (other, first, more) == ("other", single, "more")
        unit = second if kind is dict else vars(second)
        assert unit["animatediff_batch"]
        assert unit["input_mode"] in ("simple", Mode.SIMPLE)
        hints = Path(unit["batch_images"])
        assert shades(hints) == [0, 1, 2, 2]
    assert not hints.exists()
    assert p.script_args_value is p.script_args
    assert "animatediff_batch" not in (batch if kind is dict else vars(batch))


def test_a_video_is_taken_apart(tmp_path: Path) -> None:
    video = tmp_path / "hints.gif"
    write(np.arange(5, dtype=np.uint8).repeat(192).reshape(5, 8, 8, 3) * 40, video, 8)
    p = processing({"enabled": True, "batch_images": str(video)})
    with ExitStack() as undo:
        controlnet.units_per_frame(p, CLIP, undo)
        images = Path(p.script_args_value[1]["batch_images"])
        assert shades(images) == [0, 40, 80, 120]
    assert not images.exists()


def test_pictures_are_taken_by_their_numbers_and_in_any_format(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        Image.new("RGB", (8, 8), (number * 10, 0, 0)).save(tmp_path / f"{number}.webp", lossless=True)
    (tmp_path / "notes.txt").write_text("no picture")
    with ExitStack() as undo:
        p = processing({"enabled": True, "batch_images": str(tmp_path)})
        controlnet.units_per_frame(p, CLIP, undo)
        assert shades(Path(p.script_args_value[1]["batch_images"])) == [10, 20, 100, 100]


class BuiltIn:
    """A unit of the Forge family's own ControlNet."""

    def __init__(self, enabled: bool = True, input_mode: Any = Mode.SIMPLE, **fields: Any) -> None:
        self.enabled, self.input_mode = enabled, input_mode
        vars(self).update({"batch_image_dir": "", **fields})


def built_in(*units: Any, prepared: int = 0) -> Any:
    """A job with that ControlNet, `prepared` of whose units are ready."""
    p = processing(*units)

    def enabled(units: list[Any]) -> list[Any]:
        made = [BuiltIn(**unit) if isinstance(unit, dict) else unit for unit in units]
        return [unit for unit in made if unit.enabled]

    made = {"current_params": dict.fromkeys(range(prepared))} if prepared else {}  # it has none before its first job
    vars(p.script).update(made, get_enabled_units=enabled, process_unit_after_click_generate=None)
    return p


@pytest.mark.parametrize("kind", [dict, BuiltIn])
def test_the_built_in_one_gets_as_many_images_as_frames(kind: Any, folder: Path) -> None:
    gallery = [("0.png", None), ("1.png", None)]
    merged = kind(enabled=True, input_mode=Mode("merge"), batch_input_gallery=gallery)
    batch = kind(enabled=True, input_mode="batch" if kind is dict else Mode.BATCH, batch_image_dir=str(folder))
    single = BuiltIn(image="x")
    p = built_in(batch, merged, single)
    with ExitStack() as undo:
        controlnet.units_per_frame(p, CLIP, undo)
        _, first, second, third, _ = p.script_args_value
        assert first.input_mode is Mode.BATCH
        assert shades(Path(first.batch_image_dir)) == [0, 1, 2, 2]
        assert [name for name, _ in second.batch_input_gallery] == ["0.png", "1.png", "1.png", "1.png"]
        assert third is single
    assert p.script_args_value is p.script_args
    assert len(gallery) == 2


class OneImage:
    """A unit of Neo's since 2026: its image is a picture, and what is drawn over it another."""

    def __init__(self, enabled: bool = True, image: Any = None, image_fg: Any = None) -> None:
        self.enabled, self.image, self.image_fg = enabled, image, image_fg

    def picture(self) -> Any:
        assert self.image_fg is None or (self.image_fg.shape == (*self.image.shape[:2], 4) and not self.image_fg.any())
        return self.image


class OneImageClassic:
    """Classic's, which names modes and folders that it no longer takes: its image is a picture with a mask."""

    batch_image_dir = None

    def __init__(self, enabled: bool = True, image: Any = None, input_mode: Any = Mode.SIMPLE) -> None:
        self.enabled, self.image, self.input_mode = enabled, image, input_mode

    def picture(self) -> Any:
        assert self.image["image"].shape == self.image["mask"].shape and not self.image["mask"].any()
        return self.image["image"]


@pytest.mark.parametrize(("kind", "fields"), [(OneImage, {}), (OneImageClassic, {"input_mode": "batch"})])
def test_where_a_unit_knows_one_image_the_job_is_given_one_for_each_frame(
    folder: Path, kind: Any, fields: dict[str, Any]
) -> None:
    def asked(p: Any, unit: Any, *others: Any) -> Any:
        assert others == ("preprocessor", 64, 64)
        return [[int(unit.picture().max()), None]], "crop"

    p = processing({"batch_image_dir": str(folder), **fields}, {"image": "one"})
    made = {"get_enabled_units": lambda units: [kind(**unit) if isinstance(unit, dict) else unit for unit in units]}
    vars(p.script).update(process_unit_after_click_generate=None, get_input_data=asked, **made)
    with ExitStack() as undo:
        controlnet.units_per_frame(p, CLIP, undo)
        _, several, one, _ = p.script_args_value
        assert p.script.get_enabled_units([several]) == [several], "the host takes it as it is"
        assert getattr(several, "input_mode", Mode.SIMPLE) is Mode.SIMPLE
        found, mode = p.script.get_input_data(p, several, "preprocessor", 64, 64)
        assert ([shade for shade, _ in found], mode) == ([0, 1, 2, 2], "crop")
        picture = np.full((2, 2, 3), 9)
        other = kind(image=picture if kind is OneImage else {"image": picture, "mask": np.zeros((2, 2, 3))})
        assert p.script.get_input_data(p, other, "preprocessor", 64, 64) == ([[9, None]], "crop")
        assert one.image == "one"
    assert p.script.get_input_data is asked


def test_units_of_the_built_in_one_that_could_not_be_prepared_stop_the_job() -> None:
    off = BuiltIn(enabled=False)
    controlnet.hints_by_frame(built_in(BuiltIn(), off, prepared=1), Arrangement(Windows(FRAMES)), ExitStack())
    with pytest.raises(MotionError, match="could not prepare"):
        controlnet.hints_by_frame(built_in(BuiltIn(), off), Arrangement(Windows(FRAMES)), ExitStack())


def test_a_refused_job_has_no_units() -> None:
    unit = SimpleNamespace(enabled=True, batch_images="folder")
    p = processing(unit, {"enabled": True})
    controlnet.stand_down(p)
    assert [p.script_args_value[1].enabled, p.script_args_value[2]["enabled"]] == [False, False]
    assert unit.enabled


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    p = processing({"enabled": True, "batch_images": str(tmp_path / "gone")})
    with ExitStack() as undo, pytest.raises(MotionError, match="holds no images"):
        controlnet.units_per_frame(p, CLIP, undo)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("mask:/masks", "a line 'mask:/masks' besides its folder"),
        ("keyframe:", "a line 'keyframe:'"),
        ("keyframe:0,2", "names 2 frames for 3 images"),
        ("keyframe:0,2,4", "key frame 4 is out of range"),
        ("keyframe:0,1,2\nstrength:1,1", "2 strengths for 3 key frames"),
        ("strength:1,1,1,1,1", "5 strengths for 4 frames"),
        ("strength:3", "is 3: give a number from 0 to 2"),
        ("strength:0: 3", "which comes to 3: stay from 0 to 2"),
        ("strength:0: 1, 9: 0", "9 is not in a clip of 4 frames"),
        ("strength:@0: 1", "give a curve over frames alone"),
    ],
)
def test_lines_that_would_do_nothing_are_refused(folder: Path, lines: str, said: str) -> None:
    p = processing({"enabled": True, "batch_images": f"{folder}\n{lines}"})
    with ExitStack() as undo, pytest.raises(MotionError, match=said):
        controlnet.units_per_frame(p, CLIP, undo)


@pytest.mark.parametrize("module", ["ip-adapter_pulid", "InsightFace (InstantID)", "reference_only"])
def test_what_is_of_one_picture_takes_no_folder_and_no_source(folder: Path, module: str) -> None:
    p = processing({"enabled": True, "module": module, "batch_images": str(folder)})
    with ExitStack() as undo, pytest.raises(MotionError, match="takes one picture for a clip"):
        controlnet.units_per_frame(p, CLIP, undo)
    p = processing({"enabled": True, "module": module})
    with ExitStack() as undo, pytest.raises(MotionError, match="no ControlNet unit is shown"):
        controlnet.units_per_frame(p, Clip(FRAMES, FRAMES, lambda: ()), undo)


def test_strengths_are_a_curve_over_frames(folder: Path) -> None:
    keyed, plain = f"{folder}\nkeyframe:3,0,1\nstrength:0: 2, -1: 0.5", f"{folder}\nstrength: 0: 1, -1: 0.4"
    p = processing(*({"enabled": True, "batch_images": text} for text in (keyed, plain)))
    with ExitStack() as undo:
        shown = controlnet.units_per_frame(p, Clip(FRAMES + 1, FRAMES), undo)
    found = [own.strengths for own in shown if own is not None]
    assert found == [pytest.approx([2, 1.5, 0, 0.5, 0]), pytest.approx([1, 0.8, 0.6, 0.4, 0.4])]


def test_key_frames_have_a_picture_and_a_strength_each(folder: Path) -> None:
    unit = {"enabled": True, "batch_images": f"{folder}\nkeyframe: 3,0,-2\nstrength: 1,0.5,2"}
    plain = {"enabled": True, "batch_images": f"{folder}\n\nstrength:1,0.5"}
    p = processing({"enabled": False}, unit, plain, {"enabled": True, "image": "x"})
    with ExitStack() as undo:
        shown = controlnet.units_per_frame(p, Clip(FRAMES + 1, FRAMES), undo)
        assert [own and own.strengths for own in shown] == [[0.5, 0, 2, 1, 0], [1, 0.5, 0.5, 0.5, 0.5], None]
        assert shades(Path(p.script_args_value[2]["batch_images"]))[:4] == [1, 1, 2, 0]


@pytest.mark.parametrize("forge", [False, True])
def test_units_without_an_image_are_shown_the_source(forge: bool) -> None:
    source = Clip(FRAMES, FRAMES, lambda: (np.full((8, 8, 3), 10 * shade, np.uint8) for shade in range(FRAMES)))
    units = {"enabled": True}, {"enabled": True, "image": "x"}, {"enabled": False}
    p = built_in(*(BuiltIn(**unit) for unit in units)) if forge else processing(*units)
    with ExitStack() as undo:
        shown, other = controlnet.units_per_frame(p, source, undo)
        assert shown is not None and (shown.strengths, shown.mixed, other) == (None, None, None)
        _, fed, own, off, _ = p.script_args_value
        folder = fed.batch_image_dir if forge else fed["batch_images"]
        assert shades(Path(folder)) == [0, 10, 20, 30]
        assert (own, off) == p.script_args[2:4]
    for nobody in (processing(units[1]), SimpleNamespace(scripts=None)):
        with ExitStack() as undo, pytest.raises(MotionError, match="no ControlNet unit is shown"):
            controlnet.units_per_frame(nobody, source, undo)


def test_without_the_extension_there_is_nothing_to_do() -> None:
    p = SimpleNamespace(scripts=None)
    controlnet.units_per_frame(p, CLIP, ExitStack())
    controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES)), ExitStack())


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("hints", [FRAMES, 2 * FRAMES])
def test_each_call_gets_the_hints_of_its_frames(groups: int, hints: int) -> None:
    p = processing(object(), hints=hints)
    hint = p.script.latest_network.control_params[0].hint_cond
    arrangement = Arrangement(Windows(FRAMES, closed=True))
    x = torch.zeros(groups * FRAMES, 4)
    with ExitStack() as undo:
        controlnet.hints_by_frame(p, arrangement, undo)
        for time in range(3):
            arrangement.take(*arrangement.begin(time))
            rows = p.script.network(x=x, hint=hint).flatten() % FRAMES
            assert rows.tolist() == arrangement.frame_numbers(len(x))
    assert p.script.network(x=x, hint=hint) is hint


def test_one_hint_for_all_frames_is_left_to_the_extension() -> None:
    p = processing(object(), hints=1)
    with ExitStack() as undo:
        controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES)), undo)
        assert not p.script.network._forward_pre_hooks


def test_units_that_could_not_be_prepared_stop_the_job() -> None:
    p = processing(object())
    p.script.latest_network = None
    with pytest.raises(MotionError, match="could not prepare"):
        controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES)), ExitStack())


class Keeping(nn.Module):
    """As the extension's T2I-Adapters: it goes on saying what it has said first."""

    control: Any = None

    def forward(self, hint: Tensor, x: Tensor) -> Tensor:
        self.control = hint if self.control is None else self.control
        return self.control


class Part(nn.Module):
    """As one of ControlLLLite's: it keeps what it has made of the pictures first, and answers as many rows."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.set_cond_image(pictures)

    def set_cond_image(self, pictures: Tensor) -> None:
        self.cond_image, self.cond_emb = pictures, None

    def forward(self, x: Tensor, shape: Any = None) -> Tensor:
        self.cond_emb = self.cond_image if self.cond_emb is None else self.cond_emb
        return self.cond_emb.flatten() + 0 * x.flatten()


@pytest.mark.parametrize("kind", ["T2I_Adapter", "Controlllite"])
def test_what_is_kept_of_one_window_is_not_for_the_next(kind: str) -> None:
    hints = torch.arange(FRAMES).repeat(2)[:, None, None, None]
    network: Any = Keeping() if kind == "T2I_Adapter" else SimpleNamespace(modules={"a": Part(hints), "b": Part(hints)})
    p, arrangement = processing(object()), Arrangement(Windows(FRAMES, 2, overlap=1))
    p.script.latest_network.control_params = [
        SimpleNamespace(control_model=network, hint_cond=hints, control_model_type=SimpleNamespace(name=kind))
    ]
    with ExitStack() as undo:
        controlnet.hints_by_frame(p, arrangement, undo)
        for window in [(0, 1), (2, 3), (1, 2)]:
            arrangement.take(window)
            for groups in (2, 1):
                x = torch.zeros(groups * len(window))
                said = (
                    [network(x=x, hint=hints)]
                    if isinstance(network, nn.Module)
                    else [part(x) for part in network.modules.values() for _ in range(2)]
                )
                assert all(rows.flatten().tolist() == [*window] * groups for rows in said)
    if not isinstance(network, nn.Module):
        assert all(
            part(torch.zeros(len(hints))).tolist() == hints.flatten().tolist() for part in network.modules.values()
        )


def test_lllite_of_the_built_in_ones_goes_whole_or_not_at_all() -> None:
    lllite = type("ControlLLLitePatcher", (), {})()
    p = built_in(BuiltIn(), prepared=1)
    p.script.current_params = {0: SimpleNamespace(model=lllite)}
    for windows in (Windows(FRAMES), Windows(FRAMES, 2, overlap=1, engine="attention")):
        controlnet.hints_by_frame(p, Arrangement(windows), ExitStack())
    with pytest.raises(MotionError, match="ControlLLLite cannot work on a clip in windows"):
        controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES, 2, overlap=1)), ExitStack())


class Residuals(nn.Module):
    """A control network that says 1 in each row."""

    def forward(self, x: Tensor, hint: Tensor) -> list[Tensor]:
        return [torch.ones(len(x), 2, 3, 3), torch.ones(len(x), 4, 1, 1)]


def test_what_a_network_says_counts_by_frame_in_each_window() -> None:
    p = processing(object(), object(), hints=FRAMES)
    network, strengths = Residuals(), [0.0, 0.5, 1.0, 2.0]
    kind = SimpleNamespace(name="ControlNet")
    params = [
        SimpleNamespace(control_model=network, control_model_type=kind, hint_cond=torch.zeros(FRAMES, 1, 1, 1)),
        SimpleNamespace(control_model=Residuals(), control_model_type=kind, hint_cond=torch.zeros(1, 1, 1, 1)),
    ]
    p.script.latest_network.control_params = params
    arrangement = Arrangement(Windows(FRAMES, closed=True))
    x = torch.zeros(2 * FRAMES, 4)
    with ExitStack() as undo:
        controlnet.hints_by_frame(p, arrangement, undo, [Shown(Path(), strengths), None])
        arrangement.take(*arrangement.begin(1))
        wanted = [strengths[frame] for frame in arrangement.frame_numbers(len(x))]
        for rows in network(x=x, hint=params[0].hint_cond):
            assert rows.flatten(1).mean(1).tolist() == wanted
        assert params[1].control_model(x=x, hint=None)[0].eq(1).all()
    assert network(x=x, hint=None)[0].eq(1).all()
    for wrong, said in (("IPAdapter", "of the kind IPAdapter"), ("ControlNet", "the same model")):
        params[0].control_model_type = SimpleNamespace(name=wrong)
        params[1].control_model = network
        with ExitStack() as undo, pytest.raises(MotionError, match=said):
            controlnet.hints_by_frame(p, arrangement, undo, [Shown(Path(), strengths), None])


class ControlNetPatcher:
    """Of the Forge family: it notes the weights of frames with which it is handed over."""

    def __init__(self) -> None:
        self.advanced_frame_weighting: Any = None
        self.seen: list[Any] = []

    def process_before_every_sampling(self, p: Any) -> None:
        self.seen.append(self.advanced_frame_weighting)


def test_the_built_in_ones_are_told_the_weights_of_frames_before_each_pass() -> None:
    def hand_over(p: Any, unit: Any, params: Any) -> None:
        params.model.advanced_frame_weighting = None
        params.model.process_before_every_sampling(p)

    p = built_in(BuiltIn(), BuiltIn())
    weighed, plain = (SimpleNamespace(model=ControlNetPatcher()) for _ in range(2))
    vars(p.script).update(current_params={0: weighed, 1: plain}, process_unit_before_every_sampling=hand_over)
    with ExitStack() as undo:
        controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES)), undo, [Shown(Path(), [0.0, 1.0, 1.0, 0.0]), None])
        for params in (weighed, plain, weighed):
            p.script.process_unit_before_every_sampling(p, None, params)
    assert weighed.model.seen == [[0.0, 1.0, 1.0, 0.0]] * 2 and plain.model.seen == [None]
    assert p.script.process_unit_before_every_sampling is hand_over
    assert weighed.model.advanced_frame_weighting is None
    weighed.model = SimpleNamespace()
    with ExitStack() as undo, pytest.raises(MotionError, match="counts in all frames"):
        controlnet.hints_by_frame(p, Arrangement(Windows(FRAMES)), undo, [Shown(Path(), [0.0, 1.0, 1.0, 0.0]), None])
