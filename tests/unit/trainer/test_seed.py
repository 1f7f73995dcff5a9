"""`train.deterministic` reaches every library that has a switch of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from transformers import modeling_flash_attention_utils as flash

from training.trainer.seed import seed_everything


@pytest.fixture(autouse=True)
def settings_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC"):
        monkeypatch.setenv(name, "")  # restored to what it was, not to what the test leaves
        monkeypatch.delenv(name)
    yield
    torch.use_deterministic_algorithms(False)


def flash_arguments() -> dict[str, object]:
    def kernel(q, k, v, causal=False, softmax_scale=None, deterministic=False): ...

    return flash._lazy_define_process_function(kernel)(query_length=4, key_length=4, is_causal=True)


@pytest.mark.parametrize("deterministic", [False, True])
def test_flash_attention_is_deterministic(deterministic: bool) -> None:
    seed_everything(0, deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert flash_arguments()["deterministic"] is deterministic
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic
