"""A device that only emulates a precision is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.errors import DeviceError
from training.models.load import check_precision

CUDA = torch.device("cuda", 0)


def gpu(monkeypatch: pytest.MonkeyPatch, major: int, name: str) -> None:
    """Let torch's own check see a GPU of a compute capability; all of them can emulate bf16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    properties = SimpleNamespace(major=major)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


@pytest.mark.parametrize(("major", "name"), [(7, "Tesla V100-SXM2-16GB"), (7, "Tesla T4")])
def test_bf16_is_refused_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, major: int, name: str
) -> None:
    gpu(monkeypatch, major, name)
    with pytest.raises(DeviceError, match=f"bf16 is not possible on {name}.*fp32 and fp16"):
        check_precision("bf16", CUDA)
    check_precision("fp16", CUDA)


@pytest.mark.parametrize("major", [8, 9, 10])
def test_bf16_is_accepted_from_ampere_on(monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    gpu(monkeypatch, major, "a GPU")
    check_precision("bf16", CUDA)
