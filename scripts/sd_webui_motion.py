"""What the WebUI runs: everything else is in the packages beside this folder."""

from pathlib import Path

import motion

_HERE = Path(__file__).resolve().parents[1]
if not Path(motion.__file__).resolve().is_relative_to(_HERE):
    raise ImportError(f"another package called 'motion' is in the way: {motion.__file__}; remove it to use {_HERE}")

from modules import script_callbacks  # noqa: E402

from motion.extension import api, axes, infotext, options, saving  # noqa: E402
from motion.extension.script import MotionScript  # noqa: E402, F401  (the host looks for it here)

script_callbacks.on_app_started(api.add_routes)
script_callbacks.on_before_ui(axes.register)
script_callbacks.on_before_ui(saving.register)
script_callbacks.on_ui_settings(options.add_options)
script_callbacks.on_infotext_pasted(infotext.translate)
