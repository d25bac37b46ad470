"""What a scope may leave behind in a network: nothing, also when its body raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.small import run

ERRORS = (None, RuntimeError, KeyboardInterrupt, GeneratorExit)
"""What the body of a scope may raise in the middle of a call."""


def everything(unet: nn.Module) -> dict[str, Any]:
    """Every attribute of every module by identity, the contents of every table in them, and the state's tensors."""
    seen: dict[str, Any] = {}
    for name, module in unet.named_modules():
        seen[name] = id(module)
        for attribute, value in vars(module).items():
            contents = [(key, id(item)) for key, item in value.items()] if isinstance(value, dict) else None
            seen[f"{name}:{attribute}"] = (id(value), contents)
    return seen | {f"state:{name}": value.data_ptr() for name, value in unet.state_dict().items()}


def check_no_trace(
    unet: nn.Module,
    inputs: Sequence[Tensor],
    attach: Callable[[], AbstractContextManager[Any]],
    error: type[BaseException] | None,
) -> None:
    """Attach, call the UNet, in which one layer raises `error` if there is one, and detach: all is as it was.

    Without an error it must have made a difference in between, so that a scope that does nothing fails too.
    """
    plain, before = run(unet, inputs), everything(unet)
    stumble = unet.get_submodule("up_blocks" if hasattr(unet, "up_blocks") else "output_blocks")[1]
    try:
        with attach():
            assert everything(unet) != before
            if error is not None:
                with_error = stumble.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error()))
            assert not torch.allclose(run(unet, inputs), plain, atol=1e-2)
    except BaseException as raised:
        if error is None or type(raised) is not error:
            raise
        with_error.remove()
    else:
        assert error is None
    assert everything(unet) == before
    assert torch.equal(run(unet, inputs), plain)
