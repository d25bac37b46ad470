"""The strip of key frames on the page: its frame in HTML, and the answers that it is drawn from.

All that is known about key frames is said here; `javascript/motion-keyframes.js` shows it and tells what the user does.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from motion.errors import MotionError
from motion.extension import key_frame_images
from motion.extension.key_frames import place_key_frames
from motion.extension.models import encoder_library, encoders
from motion.settings.key_frames import STRONGEST, KeyFrame
from motion.settings.tab import TAB_FIELDS
from sparsectrl.presets import PICTURES, PRESETS

ADD = "Add images"
HINT = "Pictures that are dropped on the line are the clip's frames there."
EARLIER, LATER, REMOVE = "Earlier", "Later", "Remove"
ENCODER = "Encoder"
STRENGTH = "Strength"
NO_KIND = "{use} takes a {kind} encoder, and there is none: put one into {folder}"
CARD = f"""
<li class="motion-key" draggable="true">
  <img alt="">
  <label><span>Frame</span><input data-part="frame" type="text" size="6" autocomplete="off"></label>
  <label><span>{STRENGTH}</span>
    <input data-part="strength" type="number" min="0.05" max="{STRONGEST}" step="0.05"></label>
  <label><span>{ENCODER}</span><select data-part="encoder"></select></label>
  <span class="motion-key-moves">
    <button type="button" data-move="-1" title="{EARLIER}" aria-label="{EARLIER}">&#9664;</button>
    <button type="button" data-move="1" title="{LATER}" aria-label="{LATER}">&#9654;</button>
    <button type="button" data-remove title="{REMOVE}" aria-label="{REMOVE}">&#10005;</button>
  </span>
</li>"""


def frame(text_id: str, frames_id: str) -> str:
    """The strip without key frames; the ids are those of the text that it writes and of the number of frames."""
    presets = "".join(
        f'<button type="button" data-preset="{name}" title="{html.escape(use.help)}">{use.label}</button>'
        for name, use in PRESETS.items()
    )
    return f"""
<div class="motion-strip" data-text="{text_id}" data-frames="{frames_id}">
  <div class="motion-strip-tools">
    <label class="motion-strip-add"><input type="file" multiple
      accept="{",".join(f"image/{kind.lower()}" for kind in key_frame_images.FORMATS)}"><span>{ADD}</span></label>
    {presets}
  </div>
  <p class="motion-strip-hint">{HINT}</p>
  <div class="motion-strip-line"></div>
  <p class="motion-strip-problem" role="status"></p>
  <ol class="motion-strip-keys"></ol>
  <template>{CARD}</template>
</div>"""


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the strip shows: ``key_frames`` in the order of their ``places``, a ``problem`` if there is one, ``kinds``
    of encoders by name.

    ``asked``: `frames` of the clip, `key_frames` as the tab takes them, of which those without a frame are put where
    there is room, and `preset`, one of `sparsectrl.presets` by name, that places them all anew. Raises MotionError for
    what the tab does not take.
    """
    if not isinstance(asked, Mapping):
        raise MotionError(f"{asked!s:.80} asks for no strip: give frames and key_frames")
    given, preset = asked.get("key_frames") or [], asked.get("preset") or ""
    if not isinstance(given, list) or not isinstance(preset, str):
        raise MotionError(f"{given!s:.80} with preset {preset!s:.80}: give key_frames as a list and preset as a name")
    frames, kinds = TAB_FIELDS["frames"].check(asked.get("frames")), encoders()
    keys, problem = _completed(given, frames, kinds), ""
    use = PRESETS.get(preset)
    try:
        if use is not None:
            encoder = _of_kind(use.kind, kinds, use.label)
            where = use.places(len(keys), frames)
            keys = [key._replace(frame=place, encoder=encoder) for key, place in zip(keys, where, strict=True)]
        for key in keys:
            key_frame_images.path(key.image)
        _by_encoder(keys, frames)
    except MotionError as error:
        problem = str(error)
    shown = sorted(zip(_drawn_at(keys, frames), keys, strict=True), key=lambda pair: pair[0])
    return {
        "key_frames": [key._asdict() for _, key in shown],
        "places": [place for place, _ in shown],
        "problem": problem,
        "kinds": kinds,
    }


def _completed(given: Sequence[Any], frames: int, kinds: Mapping[str, str]) -> list[KeyFrame]:
    """The key frames with a frame and an encoder each."""
    usual = next((name for name, kind in kinds.items() if kind == PICTURES), next(iter(kinds), ""))
    keys: list[KeyFrame] = []
    for item in given:
        if isinstance(item, Mapping):
            frame = item.get("frame") or _room(_drawn_at(keys, frames), frames)
            item = {**item, "frame": frame, "encoder": item.get("encoder") or usual}
        keys += TAB_FIELDS["key_frames"].check([item])
    return keys


def _room(taken: Sequence[int], frames: int) -> str:
    """The first frame, else the last, else the middle of the widest gap between those that are taken."""
    if 0 not in taken:
        return "0"
    if frames - 1 not in taken:
        return "-1"
    ends = sorted(set(taken))
    start, end = max(pairwise(ends), key=lambda gap: gap[1] - gap[0], default=(0, 0))
    return str((start + end) // 2)


def _by_encoder(keys: Sequence[KeyFrame], frames: int) -> list[int]:
    """The place of each key frame in the clip. Raises MotionError as `placed` does."""
    places = [0] * len(keys)
    for encoder in {key.encoder for key in keys}:
        own = [index for index, key in enumerate(keys) if key.encoder == encoder]
        for index, place in zip(own, place_key_frames([keys[index] for index in own], frames), strict=True):
            places[index] = place
    return places


def _drawn_at(keys: Sequence[KeyFrame], frames: int) -> list[int]:
    """Where the strip shows them: at their places, or where each would be by itself, the first frame if nowhere."""
    try:
        return _by_encoder(keys, frames)
    except MotionError:
        return [_alone(key, frames) for key in keys]


def _alone(key: KeyFrame, frames: int) -> int:
    try:
        return place_key_frames([key], frames)[0]
    except MotionError:
        return 0


def _of_kind(kind: str, kinds: Mapping[str, str], use: str) -> str:
    """The first encoder of a kind. Raises MotionError if there is none."""
    name = next((name for name, its_kind in kinds.items() if its_kind == kind), None)
    if name is None:
        raise MotionError(NO_KIND.format(use=use, kind=kind, folder=encoder_library().folders[0]))
    return name
