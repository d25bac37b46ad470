"""What of ADetailer's script is asked for masks, with the same names; its detector finds the shape, which is not the
background's colour."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from modules import scripts
from PIL import Image

model_mapping = {"shape_yolov8n.pt": "/models/shape_yolov8n.pt"}


class PredictOutput:
    def __init__(self, masks: list[Image.Image]) -> None:
        self.masks = masks


class AfterDetailerScript(scripts.Script):
    def title(self) -> str:
        return "A stand-in for ADetailer"

    def show(self, is_img2img: bool) -> Any:
        return False

    @staticmethod
    def get_ultralytics_device() -> str:
        return "cpu"


@contextmanager
def disable_safe_unpickle() -> Iterator[None]:
    yield


def ultralytics_predict(
    model_path: str, image: Image.Image, confidence: float = 0.3, device: str = "", classes: str = ""
) -> PredictOutput:
    pixels = np.asarray(image).astype(int)
    shape = np.abs(pixels - pixels[0, 0]).sum(-1) > 150
    if not shape.any():
        return PredictOutput([])
    rows, columns = np.nonzero(shape)
    box = np.zeros(shape.shape, np.uint8)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 255
    return PredictOutput([Image.fromarray(box)])


def mediapipe_predict(model_type: str, image: Image.Image, confidence: float = 0.3) -> PredictOutput:
    return PredictOutput([])
