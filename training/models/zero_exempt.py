"""Models that are loaded whole beside one that ZeRO 3 shards, because no engine gathers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.integrations import deepspeed


@contextmanager
def zero3_disabled() -> Iterator[None]:
    """Have Transformers load weights whole, whatever the sharding of what is trained."""
    reference = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = reference
