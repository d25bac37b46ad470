"""SparseCtrl in the sampling of a WebUI's job: each pass obeys the key frames in its own size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

import sparsectrl
from motion import patching
from motion.fields.table import Size
from motion.hosts.controls import Control, Pixels, check_effects, condition, given_latents, influence
from motion.hosts.webui.backends.base import host_module
from motion.hosts.webui.backends.detect import encode, host
from motion.sampling.arrangement import Arrangement
from motion.settings.tab import Tab
from sparsectrl import SparseEncoder
from sparsectrl.encoder import PIXELS_PER_LATENT

Loaded = tuple[Control, SparseEncoder | None]
STOPPED = ("interrupted", "skipped", "stopping_generation")
"""What the host's state says of a job that its user ends early."""


class KeyFrameControls:
    """The controls of a job. Within `scope` they act from `begin` on, which each pass of sampling is told by.

    Without controls nothing is attached and nothing looked up. The images of those without an encoder are only given,
    as are all where techniques ask for it (``gives``).
    """

    def __init__(self, settings: Tab, loaded: Sequence[Loaded], arrangement: Arrangement, gives: bool = False) -> None:
        self.settings = settings
        self.controls = [control for control, _ in loaded]
        self.shown = [(control, encoder) for control, encoder in loaded if encoder is not None]
        self.arrangement = arrangement
        self.given: dict[int, Tensor] = {}
        """Latents ``[c, h, w]`` of the images in the size of the pass, if they are asked for."""
        self._gives = gives
        self._conditions: list[Tensor] = []
        self._encoded: Size | None = None
        """The size for which these were made by the VAE that is loaded; None: by no or another one."""
        self._in_pass = False
        self._failed: Exception | None = None
        self._attached = ExitStack()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """One call of the host's sampling. Raises MotionError if it ends with a control that has done nothing."""
        for control in self.controls:
            control.effect = None
        try:
            yield
        finally:
            self._detach()
            self._in_pass = False
        state = host_module("shared").state if self.controls else None
        if not any(getattr(state, name, False) for name in STOPPED):
            check_effects(self.controls, ended=True)

    def begin(self, latents: Tensor) -> None:
        """Attach for a pass over ``latents [frames, C, h, w]``; the images are encoded once for passes of one size.

        The host logs and forgets what is raised here, so the UNet's first call raises it.
        """
        if not self.controls:
            return
        self._detach()
        self._failed, self._in_pass = None, True
        try:
            check_effects(self.controls, ended=False)  # of the pass before
            self._encode(Size(*(PIXELS_PER_LATENT * side for side in (latents.shape[-1], latents.shape[-2]))))
            self._attach()
        except Exception as error:
            self._detach()
            self._failed = error
            self._attached.callback(patching.before(host().unet(), self._fail))

    def show(self, images: Mapping[int, Pixels]) -> None:
        """Let these be the images of each control from the next pass on."""
        for control in self.controls:
            control.images = images
        self._encoded = None

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Within, the host may put another model in place; on exit the pass in progress goes on with that."""
        self._detach()
        yield
        self._encoded = None
        if self._in_pass:
            self._attach()

    def _encode(self, size: Size) -> None:
        if size != self._encoded:
            frames = self.arrangement.frames
            self._conditions = [condition(*pair, encode, self.settings, size, frames) for pair in self.shown]
            if self._gives:
                self.given = given_latents(self.controls, encode, self.settings.key_fit, size)
            self._encoded = size

    def _attach(self) -> None:
        unet, frames = host().unet(), self.arrangement.frames
        for (control, encoder), shown in zip(self.shown, self._conditions, strict=True):
            how, before = influence(self.settings, self.settings.frames, control), control.effect
            scope = sparsectrl.attach(unet, encoder, shown, frames, influence=how, arrangement=self.arrangement)
            control.effect = self._attached.enter_context(scope)
            if before is not None:
                control.effect.go_on(*before.counted())

    def _fail(self, *_: Any) -> None:
        """Before a call of the UNet: stop the job rather than draw frames that obey nothing."""
        assert self._failed is not None
        raise self._failed

    def _detach(self) -> None:
        self._attached.close()
