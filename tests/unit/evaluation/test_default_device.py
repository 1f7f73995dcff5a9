"""Choice of a device, with a build of torch that supports more than this machine has."""

from __future__ import annotations

import pytest
import torch

from evaluation.models.load import default_device
from tests.run_commands import ROOT


def test_a_cuda_build_without_a_gpu_uses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr("torch._C._accelerator_getAccelerator", lambda: cuda)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert default_device() == torch.device("cpu")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert default_device() == cuda


def test_no_package_takes_an_accelerator_that_may_be_absent() -> None:
    files = [path for name in ("evaluation", "safety") for path in (ROOT / name).rglob("*.py")]
    unchecked = [p for p in files if "current_accelerator()" in p.read_text("utf-8")]
    assert files and unchecked == []
