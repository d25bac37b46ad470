"""How much of a clip's structure is kept: edges and depths without their details."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from motion.video.pictures import Frame


def blur_structure(frame: Frame, times: int) -> Frame:
    """The frame blurred and halved so many ``times``, and back in its size.

    Esser et al. 2023, "Structure and Content-Guided Video Synthesis with Diffusion Models" (Gen-1,
    arXiv:2302.03011), section 3.3, where it is done 0 to 7 times to depth maps.
    """
    picture = Image.fromarray(frame)
    for _ in range(times):
        halved = max(1, picture.width // 2), max(1, picture.height // 2)
        picture = picture.filter(ImageFilter.GaussianBlur(1)).resize(halved, Image.Resampling.BOX)
    return np.asarray(picture.resize(frame.shape[1::-1], Image.Resampling.BILINEAR)) if times else frame
