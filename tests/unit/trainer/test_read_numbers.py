"""Numbers of a step are read from the device together, and exactly."""

from __future__ import annotations

import pytest
import torch

from training.trainer.metrics import read_numbers


def test_numbers_and_tensors_keep_their_order_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        torch.tensor(0.1, requires_grad=True),
        3,
        torch.tensor(2**40 + 1),
        0.2,
        torch.tensor([[0.3]]),
        torch.tensor(0.4, dtype=torch.float64),
    ]
    expected = [float(value) if not isinstance(value, float) else value for value in values]
    reads = []
    move = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: reads.append(self) or move(self))
    assert read_numbers(values) == expected
    assert len(reads) == 3, "one for each dtype"
    assert read_numbers([]) == []
