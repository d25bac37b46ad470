"""Parameters put into the page by itself: from a clip's file, and those that suit the demo models."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from motion import video
from motion.errors import MotionError
from motion.extension.page.notes import alarm, note
from motion.hosts.webui.backends.base import host_module
from motion.settings.tab import FORMATS

NONE = "{file} holds no parameters."
READ = "The parameters of {file} are in the page."


class PasteRow:
    """A hidden text whose parameters go into the whole tab when `javascript/motion.js` presses the hidden button, and
    the button that reads a clip's file into it."""

    def __init__(self, elem_id: Callable[[str], str], tab: str) -> None:
        self.elem_id = elem_id
        self.text = gr.Textbox(visible=False, elem_id=elem_id("paste_text"))
        self.text.do_not_save_to_config = True
        button = gr.Button("Paste", visible=False, elem_id=elem_id("paste_now"))
        utils = host_module("infotext_utils")
        binding = utils.ParamBinding(paste_button=button, tabname=tab, source_text_component=self.text)
        utils.register_paste_params_button(binding)

    def build(self) -> None:
        """Draw the button."""
        kinds = [f".{name}" for name in FORMATS if name != "frames"]
        read = gr.UploadButton("Read the parameters of a clip", file_types=kinds, elem_id=self.elem_id("read_clip"))
        said = gr.HTML(elem_id=self.elem_id("read_said"))
        read.upload(self.read, inputs=[read], outputs=[self.text, said], show_progress=False)

    def read(self, upload: Any) -> tuple[str, str]:
        """The parameters in an uploaded file, and what is to be said."""
        file = Path(getattr(upload, "name", upload))
        try:
            text = video.read_parameters(file)
        except MotionError as error:
            return "", alarm(error)
        if not text:
            return "", note(NONE.format(file=file.name))
        return text, note(READ.format(file=file.name)) + self.now()

    def now(self, checkpoint: str = "") -> str:
        """What makes the page paste the text as soon as it is shown, and choose a checkpoint before."""
        button = html.escape(self.elem_id("paste_now"))
        return f"<span data-motion-paste='{button}' data-checkpoint='{html.escape(checkpoint)}'></span>"
