"""What of a job's own settings cannot become a clip: refused before anything is drawn; and what is told beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from motion.fields.table import Size
from motion.settings.few_steps import LABELS, SCHEDULE, contradiction, find_recipe, schedule_type
from motion.settings.prompts import travel
from motion.settings.tab import Tab
from motion.video.destination import check_frame_size, check_text, encoder_for


def check_prompts(p: Any, tab: Tab) -> None:
    """Raise MotionError for a key frame of a prompt that is not in the clip, and for text that no file can carry."""
    for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"):
        texts = getattr(p, name, None) or []
        for text in [texts] if isinstance(texts, str) else texts:
            check_text(text)
            travel(text, tab.frames)


def check_output(size: Size, tab: Tab) -> None:
    """Raise MotionError for a format that cannot be written here, or that takes not this frame rate or size."""
    for name in tab.formats:
        if name != "frames":
            check_frame_size(encoder_for(f".{name}", tab.fps), *size)


def few_steps_note(p: Any, files: Iterable[str], loras: Sequence[str]) -> str:
    """What of the job's steps, sampler and schedule type a file rules out that was distilled for few steps; empty if
    nothing. ``files`` and, of them, ``loras`` go by their published names."""
    recipe = find_recipe(files)
    if recipe is None:
        return ""
    asked = {LABELS["sampler"]: p.sampler_name, LABELS["steps"]: str(p.steps)}
    if hasattr(p, "scheduler"):
        asked[SCHEDULE] = schedule_type(p.scheduler)
    return contradiction(recipe.in_webui(), asked, loras)


def final_size(p: Any) -> Size:
    """That of the frames that ``p`` makes, with hires fix."""
    width, height = p.width, p.height
    if getattr(p, "enable_hr", False):  # a side that is 0 follows from the other
        wide, high = p.hr_resize_x, p.hr_resize_y
        scale = p.hr_scale if not (wide or high) else max(wide / width, high / height)
        width, height = int(width * scale), int(height * scale)
    return Size(width, height)
