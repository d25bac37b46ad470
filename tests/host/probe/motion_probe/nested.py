"""Jobs within a job: what extensions do that draw each picture once more, as ADetailer does with the faces in it."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from PIL import Image

MARK = "_probe_nested"


class Nested:
    """Draws a picture anew for each of a job's, in the middle of that job. `kind` says how, None that it does not:

    "marked" and "fresh" with a `p` of its own, as ADetailer makes it, which carries ADetailer's mark or does not;
    "copied" with a copy of the job's `p`. All of them hand on the settings of every script.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.drawn: list[int] = []
        """The number of pictures that each of the jobs brought."""

    def postprocess_image(self, p: Any, pp: Any) -> None:
        if self.kind is None or hasattr(p, MARK):
            return
        from modules import processing

        inner = copy(p) if self.kind == "copied" else self._own(p, pp.image)
        setattr(inner, MARK, True)
        inner.batch_size = inner.n_iter = 1
        inner.prompt, inner.seed = "a white square", 1
        if self.kind == "marked":
            inner._ad_inner = True
        made = processing.process_images(inner).images
        self.drawn.append(len(made))
        # The picture keeps a corner of its own: who looks sees which of them it was.
        pixels = np.asarray(made[0]).copy()
        pixels[:8, :8] = np.asarray(pp.image)[:8, :8]
        pp.image = Image.fromarray(pixels)

    def _own(self, p: Any, image: Any) -> Any:
        from modules import processing

        inner = processing.StableDiffusionProcessingImg2Img(
            sd_model=p.sd_model, init_images=[image], denoising_strength=0.4, resize_mode=0, mask=None,
            outpath_samples=p.outpath_samples, outpath_grids=p.outpath_grids, sampler_name=p.sampler_name,
            steps=p.steps, cfg_scale=p.cfg_scale, width=p.width, height=p.height, do_not_save_samples=True,
            do_not_save_grid=True,
        )  # fmt: skip
        inner.cached_c, inner.cached_uc = [None, None], [None, None]
        inner.scripts, inner.script_args = copy(p.scripts), p.script_args
        return inner
