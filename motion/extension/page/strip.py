"""The strip of key frames on the page: its frame in HTML, and the answers that it is drawn from.

All that is known about key frames is said here; `javascript/motion-keyframes.js` shows it and tells what the user does.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from motion.errors import MotionError
from motion.extension.models import encoder_library, encoders
from motion.extension.planning import key_frame_images
from motion.extension.planning.key_frames import place_key_frames, usual_encoder
from motion.settings.key_frames import STRONGEST, KeyFrame
from motion.settings.tab import TAB_FIELDS
from motion.video.pictures import FORMATS
from sparsectrl.presets import PRESETS

ADD = "Add images"
HINT = "Pictures that are dropped on the line are the clip's frames there."
EARLIER, LATER, REMOVE = "Earlier", "Later", "Remove"
CLEAR, CLOSE, LAST = "Clear all", "Close", "last"
ENCODER = "Encoder"
FRAME_RANGE = (
    "frame {frame!s:.40} is no place in the clip: give 0 to {last}, -1 for the last, or uniform, start, center, end"
)
STRENGTH_RANGE = "strength {strength!s:.40} is out of range: give a number above 0, at most {most}"
STRENGTH = "Strength"
STRENGTH_HINT = "a number, or a curve over steps such as @0: 1, @0.5: 0"
NO_KIND = "{use} takes a {kind} encoder, and there is none: put one into {folder}"
CARD = f"""
<li class="motion-key" draggable="true">
  <img alt="">
  <label><span>Frame</span><span class="motion-key-frame">
    <input data-part="frame" type="text" size="6" autocomplete="off"><small data-part="last">{LAST}</small>
  </span></label>
  <label><span>{STRENGTH}</span>
    <input data-part="strength" type="text" size="6" autocomplete="off" title="{STRENGTH_HINT}"></label>
  <label><span>{ENCODER}</span><select data-part="encoder"></select></label>
  <span class="motion-key-moves">
    <button type="button" data-move="-1" title="{EARLIER}" aria-label="{EARLIER}">&#9664;</button>
    <button type="button" data-move="1" title="{LATER}" aria-label="{LATER}">&#9654;</button>
    <button type="button" data-remove title="{REMOVE}" aria-label="{REMOVE}">&#10005;</button>
  </span>
  <p data-part="problem" role="status"></p>
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
      accept="{",".join(f"image/{kind.lower()}" for kind in FORMATS)}"><span>{ADD}</span></label>
    {presets}
    <button type="button" data-clear>{CLEAR}</button>
  </div>
  <p class="motion-strip-hint">{HINT}</p>
  <div class="motion-strip-line"></div>
  <p class="motion-strip-problem" role="status"></p>
  <ol class="motion-strip-keys"></ol>
  <dialog class="motion-strip-large"><img alt="Key frame"><button type="button">{CLOSE}</button></dialog>
  <template>{CARD}</template>
</div>"""


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the strip shows: ``key_frames`` in the order of their ``places``, of each what is wrong with it
    (``problems``), what is wrong with them all (``problem``), ``kinds`` of encoders by name.

    ``asked``: `frames` of the clip, `key_frames` as the tab takes them, of which those without a frame are put behind
    the last, and `preset`, one of `sparsectrl.presets` by name, that places them all anew. Raises MotionError for
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
        "problems": [_problem(key, frames) for _, key in shown],
        "problem": problem,
        "kinds": kinds,
    }


def _completed(given: Sequence[Any], frames: int, kinds: Mapping[str, str]) -> list[KeyFrame]:
    """The key frames with a frame and an encoder each."""
    usual = usual_encoder(kinds)
    keys: list[KeyFrame] = []
    for item in given:
        if isinstance(item, Mapping):
            item = {**item, "frame": item.get("frame", ""), "encoder": item.get("encoder") or usual}
        if isinstance(item, Mapping) and item["frame"] == "":
            keys = _behind(keys, _checked({**item, "frame": "0"}, frames), frames)
        else:
            keys.append(_checked(item, frames))
    return keys


def _checked(item: Any, frames: int) -> KeyFrame:
    """What the tab makes of one. Raises MotionError in the words of its card."""
    try:
        (key,) = TAB_FIELDS["key_frames"].check([item])
    except MotionError as error:
        given = item if isinstance(item, Mapping) else {}
        strength = given.get("strength", 1)
        if not isinstance(strength, str) and not (isinstance(strength, (int, float)) and 0 < strength <= STRONGEST):
            raise MotionError(STRENGTH_RANGE.format(strength=strength, most=STRONGEST)) from error
        if isinstance(given.get("frame"), str):
            raise MotionError(FRAME_RANGE.format(frame=given["frame"], last=frames - 1)) from error
        raise
    made: KeyFrame = key
    return made


def _behind(keys: Sequence[KeyFrame], added: KeyFrame, frames: int) -> list[KeyFrame]:
    """These with another one behind the last of them: where the end is taken already, they move up and give it room."""
    places = _drawn_at(keys, frames)
    order = [key for _, key in sorted(zip(places, keys, strict=True), key=lambda pair: pair[0])]
    room = _room(places, frames)
    taken = [*zip(places, (key.frame for key in keys), strict=True), (int(room) % frames, room)]
    texts = [text for _, text in sorted(taken, key=lambda pair: pair[0])]
    return [key._replace(frame=text) for key, text in zip([*order, added], texts, strict=True)]


def _room(taken: Sequence[int], frames: int) -> str:
    """A frame for another picture: in an empty clip the first, then the last, else the middle of the widest gap."""
    if not taken or frames == 1:
        return "0"
    if frames - 1 not in taken:
        return "-1"
    start, end = max(pairwise(sorted({0, *taken})), key=lambda gap: gap[1] - gap[0])
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
    return 0 if _problem(key, frames) else place_key_frames([key], frames)[0]


def _problem(key: KeyFrame, frames: int) -> str:
    """What is wrong with a key frame by itself; empty if nothing is."""
    try:
        place_key_frames([key], frames)
    except MotionError as error:
        return str(error)
    return ""


def _of_kind(kind: str, kinds: Mapping[str, str], use: str) -> str:
    """The first encoder of a kind. Raises MotionError if there is none."""
    name = next((name for name, its_kind in kinds.items() if its_kind == kind), None)
    if name is None:
        raise MotionError(NO_KIND.format(use=use, kind=kind, folder=encoder_library().folders[0]))
    return name
