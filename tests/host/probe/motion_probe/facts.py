"""Facts about the running host that no clip may change, as one line of text each."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

HOST_MODULES = (
    *("processing", "images", "rng", "scripts", "prompt_parser", "devices", "extra_networks", "sd_hijack_unet"),
    *("sd_models", "sd_unet", "sd_vae", "sd_samplers", "sd_samplers_cfg_denoiser", "sd_samplers_kdiffusion"),
    *("sd_samplers_timesteps", "sd_samplers_timesteps_impl", "sd_samplers_common", "sd_schedulers"),
)


def facts(ids: bool) -> dict[str, str]:
    """All of it, by name. With `ids` down to the same objects; without, what is also the same after a restart."""
    shared = import_module("modules.shared")
    model = import_module("modules.sd_models").model_data.sd_model
    lines = dict(_of_modules(ids))
    lines |= {f"option {name}": repr(value) for name, value in shared.opts.data.items()}
    lines |= _of_callbacks()
    lines |= {f"torch {name}": _text(getattr(nn.modules.module, name), ids) for name in _global_hooks()}
    lines["torch default dtype"] = str(torch.get_default_dtype())
    for name, network in _networks(model):
        lines |= {f"{name}: {key}": text for key, text in _of_model(network, ids)}
    if model is not None:
        lines |= {f"model {key}": _text(value, ids) for key, value in vars(model).items()}
    return lines


def _networks(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The loaded checkpoint as it is, or the parts that hosts keep of it side by side."""
    if isinstance(model, nn.Module):
        yield "checkpoint", model
    if objects := getattr(model, "forge_objects", None):
        yield "unet", objects.unet.model
        yield "text encoder", objects.clip.cond_stage_model
        yield "vae", objects.vae.first_stage_model


def _of_modules(ids: bool) -> Iterator[tuple[str, str]]:
    """Functions, classes and their methods of the host's modules that sampling goes through."""
    for name in HOST_MODULES:
        if find_spec(f"modules.{name}") is None:
            continue  # another host's
        module = import_module(f"modules.{name}")
        for key, value in vars(module).items():
            if callable(value):
                yield f"modules.{name}.{key}", _text(value, ids)
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield from _of_class(value, ids)


def _of_class(kind: type, ids: bool) -> Iterator[tuple[str, str]]:
    for key, value in vars(kind).items():
        if callable(value) or isinstance(value, (classmethod, staticmethod, property)):
            yield f"class {kind.__module__}.{kind.__qualname__}.{key}", _text(value, ids)


def _of_callbacks() -> dict[str, str]:
    callbacks = import_module("modules.script_callbacks")
    listed = {name: [str(getattr(one, "name", one)) for one in found] for name, found in callbacks.callback_map.items()}
    return {f"callbacks {name}": ", ".join(names) for name, names in listed.items()}


def _of_model(model: nn.Module, ids: bool) -> Iterator[tuple[str, str]]:
    """Every attribute of every layer of the loaded model, its weights by checksum; and the layers' classes."""
    for name, layer in model.named_modules():
        yield f"layer {name}", _object(layer, ids)
        for key, value in vars(layer).items():
            if key in ("_parameters", "_buffers"):
                for leaf, tensor in value.items():
                    yield f"layer {name}.{leaf}", _tensor(tensor, ids and key == "_parameters")
            else:
                yield f"layer {name}.{key}", _text(value, ids)
    for kind in {type(layer) for layer in model.modules()}:
        yield from _of_class(kind, ids)
    yield "state_dict", " ".join(model.state_dict())


def _global_hooks() -> list[str]:
    return [name for name in vars(nn.modules.module) if name.startswith("_global_") and "hooks" in name]


def _text(value: Any, ids: bool) -> str:
    """One line that is the same as long as the value is."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.dtype, torch.device)):
        return repr(value)[:500]
    if isinstance(value, Tensor):
        return _tensor(value, ids=False)
    if isinstance(value, Mapping):
        numbered = ids or not all(
            isinstance(key, int) for key in value
        )  # hooks are counted in the order of their making
        items = [f"{key if numbered else ''}: {_short(one, ids)}" for key, one in value.items()]
        return f"{type(value).__name__} {{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return _short(value, ids)


def _short(value: Any, ids: bool) -> str:
    named = callable(value) or isinstance(value, (ModuleType, nn.Module, classmethod, staticmethod, property))
    return _object(value, ids and named)


def _object(value: Any, ids: bool) -> str:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    home = getattr(value, "__module__", None) or type(value).__module__
    bound = f" of {type(value.__self__).__name__}" if hasattr(value, "__self__") else ""
    return f"{home}.{name}{bound}" + (f" #{_identity(value)}" if ids else "")


def _identity(value: Any) -> int:
    """Methods are made anew each time that they are asked for: what counts is what they are made of."""
    parts = (getattr(value, "__self__", None), getattr(value, "__func__", None))
    return hash(tuple(map(id, parts))) if all(part is not None for part in parts) else id(value)


def _tensor(value: Tensor | None, ids: bool) -> str:
    if value is None:
        return "None"
    data = value.detach().cpu().contiguous().view(-1)
    checksum = zlib.crc32(data.numpy().tobytes()) if data.dtype != torch.bfloat16 else int(data.sum())
    identity = f" #{id(value)}" if ids else ""
    return f"{tuple(value.shape)} {value.dtype} {value.device} {checksum:08x}{identity}"


def resident() -> int:
    """Bytes of memory that the process holds."""
    import psutil

    rss: int = psutil.Process().memory_info().rss
    return rss


def ours() -> list[str]:
    """Modules of this project that the host has imported."""
    return sorted(name for name in sys.modules if name.partition(".")[0] in ("motion", "sparsectrl"))
