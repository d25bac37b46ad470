"""Memory that is used up is told from other errors, and a GPU is asked before a model goes there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from motion.errors import MotionError
from motion.hosts.memory import check_fits, memory_error_told, staying_on
from tests.support.simulated_gpu import DEVICE, simulated_gpu

ANYWHERE = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    MemoryError(),
)


@pytest.mark.parametrize("error", ANYWHERE, ids=lambda error: str(error)[:12])
def test_whoever_has_no_memory_left_is_understood(error: BaseException) -> None:
    with (
        pytest.raises(MotionError, match="16 frames do not fit into memory: draw less"),
        memory_error_told("16 frames do", "draw less"),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shape"), KeyError("memory"), MotionError("does not fit into memory")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, memory_error_told("16 frames do"):
        raise error
    assert raised.value is error


def test_a_gpu_is_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {nn.Linear(1 << 10, 1 << 10, bias=False, device="meta"): torch.float16}  # 2 MiB
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1 << 20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 << 20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 1 << 30))
    with pytest.raises(MotionError, match=r"takes 0.0 GiB, and cuda has 0.0 GiB left"):
        check_fits(model, gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 << 20, 1 << 30))
    check_fits(model, gpu)

    def silent(device: torch.device) -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.cuda, "mem_get_info", silent)
    check_fits(model, gpu)
    check_fits(model, torch.device("cpu"))


def test_a_module_stays_on_a_gpu_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent once for all jobs, and gives way when a quarter of the memory is not left any more."""
    module, free = nn.Linear(8, 8), [400]
    size = sum(weights.nbytes for weights in module.parameters())
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 1000))
    with simulated_gpu() as gpu:

        def sent(before: int, behind: int) -> tuple[str, str, int]:
            """Where the module is in a job and behind it, and the bytes that are sent for it."""
            free[0], mark = before, len(gpu.events)
            with staying_on(DEVICE, [module]):
                within, free[0] = module.weight.device.type, behind
            to_device = (event.size for event in gpu.events[mark:] if event.kind == "to device")
            return within, module.weight.device.type, sum(to_device)

        assert sent(249 + size, 1000) == ("cpu", "cpu", 0)
        assert sent(250 + size, 250) == ("cuda", "cuda", size)
        assert sent(250, 250) == ("cuda", "cuda", 0)
        assert sent(250, 249) == ("cuda", "cpu", 0)
