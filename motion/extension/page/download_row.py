"""The folded part of the accordion that fetches published motion modules."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension import demo_models
from motion.extension.models import folders
from motion.extension.page.notes import alarm, note
from motion.extension.page.paste_row import PasteRow
from motion.hosts.webui.backends.detect import host
from motion.weights.download import KnownModel, download, known
from motion.weights.library import BASES

MEGABYTE = 1e6
DEMO = "Use the demo models"
DEMO_HELP = "A small checkpoint and its module come with Motion and draw 64 x 64 pixels: to try it at once."
DEMO_READY = "The demo models are in place, and the page is set for them: press Generate."
TOO_NARROW = "The demo models are narrower than this WebUI takes: download a module for an SD1.5 checkpoint instead."


def build(elem_id: Callable[[str], str], paste: PasteRow) -> tuple[Any, Any]:
    """Build it; returns the part itself, and the event of a download that has ended."""
    names = [_title(model) for model in known()]
    with gr.Accordion("Get a motion module", open=False, elem_id=elem_id("get")) as part:
        with gr.Row():
            chosen = gr.Dropdown(names, value=names[0], label="Published module", elem_id=elem_id("get_name"))
            button = gr.Button("Download", elem_id=elem_id("get_button"))
        about = gr.HTML(_about(names[0]), elem_id=elem_id("get_about"))
        with gr.Row():
            demo = gr.Button(DEMO, interactive=host().any_width, elem_id=elem_id("demo"))
        told = gr.HTML(note(DEMO_HELP if host().any_width else TOO_NARROW), elem_id=elem_id("demo_said"))
    demo.click(partial(_demo, paste), outputs=[paste.text, told], show_progress=False)
    chosen.change(_about, inputs=[chosen], outputs=[about], show_progress=False)
    return part, button.click(_fetch, inputs=[chosen], outputs=[about])


def _demo(paste: PasteRow) -> tuple[str, str]:
    try:
        checkpoint = demo_models.place()
    except MotionError as error:
        return "", alarm(error)
    return demo_models.parameters(), note(DEMO_READY) + paste.now(checkpoint)


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
