"""Pictures encoded to the mean of what a VAE gives: the same request then gives the same pixels each time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from motion import patching

GAUSSIAN = "DiagonalGaussianDistribution"
"""The class, ldm's, of what a VAE says of a picture, and its name in the modules of every host's VAE."""


@contextmanager
def encoding_to_the_mean(vae: nn.Module) -> Iterator[None]:
    """Within the scope ``vae`` encodes pictures to the mean of its Gaussian.

    The hosts take a random sample of it, some whatever they are told, all by the same class: its name then leads to one
    whose sample is the mean, in the modules that the net's layers are written in. A net that knows no such class has
    nothing to sample.
    """
    modules = {sys.modules[kind.__module__] for layer in vae.modules() for kind in type(layer).__mro__}
    with ExitStack() as undo:
        for module in modules:
            if gaussian := vars(module).get(GAUSSIAN):
                undo.callback(patching.item(vars(module), GAUSSIAN, _to_its_mean(gaussian)))
        yield


def _to_its_mean(gaussian: Any) -> type:
    class Mean(gaussian):  # type: ignore[misc]
        def sample(self, *args: Any, **kwargs: Any) -> Any:
            """The sample is drawn all the same: whatever draws from the same generator behind it, as ControlNet's
            reference units do, goes on as it does for a picture."""
            super().sample(*args, **kwargs)
            return self.mode()

    return Mean
