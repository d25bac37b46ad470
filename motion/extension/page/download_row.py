"""The folded part of the accordion that fetches published motion modules."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import folders
from motion.extension.page.notes import alarm
from motion.weights.download import KnownModel, download, known
from motion.weights.library import BASES

MEGABYTE = 1e6


def build(elem_id: Callable[[str], str]) -> tuple[Any, Any]:
    """Build it; returns the part itself, and the event of a download that has ended."""
    names = [_title(model) for model in known()]
    with gr.Accordion("Get a motion module", open=False, elem_id=elem_id("get")) as part:
        with gr.Row():
            chosen = gr.Dropdown(names, value=names[0], label="Published module", elem_id=elem_id("get_name"))
            button = gr.Button("Download", elem_id=elem_id("get_button"))
        about = gr.HTML(_about(names[0]), elem_id=elem_id("get_about"))
    chosen.change(_about, inputs=[chosen], outputs=[about], show_progress=False)
    return part, button.click(_fetch, inputs=[chosen], outputs=[about])


def _title(model: KnownModel) -> str:
    size = f", {model.size / MEGABYTE:.0f} MB" if model.size else ""
    return f"{model.name} ({BASES[model.base]}{size})"


def _model(title: str) -> KnownModel:
    return next(model for model in known() if _title(model) == title)


def _about(title: str) -> str:
    model = _model(title)
    url, file, note = map(html.escape, (f"https://huggingface.co/{model.repo}", model.filename, model.note))
    return f"<p><a href='{url}' target='_blank'>{html.escape(model.repo)}</a>: {file}. {note}</p>"


def _fetch(title: str, progress: Any = gr.Progress()) -> str:  # noqa: B008  (gradio finds it by its default)
    model = _model(title)

    def report(done: int, total: int | None) -> None:
        progress(done / total if total else 0, desc=f"{done / MEGABYTE:.0f} MB of {model.filename}")

    try:
        path = download(model, folders()[0], report)
    except MotionError as error:
        return alarm(error)
    return f"<p>{html.escape(str(path))} is there.</p>"
