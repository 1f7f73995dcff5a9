"""Seeding of random generators, so that the same job gives the same numbers."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; with `deterministic`, use deterministic kernels.

    Args:
        seed: Any integer in [0, 2**32).
        deterministic: Use only kernels whose result is the same in every run.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # The backward pass of flash-attn ignores torch's setting; Transformers reads this one.
        os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restore the state of every random generator on exit.

    Code that only observes a model (a memory probe, an evaluation, a sample) must not change the
    random numbers of the training steps that follow.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
