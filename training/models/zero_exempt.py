"""Loading of auxiliary models unsharded in a run that trains with ZeRO 3.

Reward models and judges are not wrapped by an engine, so nothing would gather sharded weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.integrations import deepspeed


@contextmanager
def zero3_disabled() -> Iterator[None]:
    """Make Transformers load complete weights inside the context, even under ZeRO 3.

    Transformers shards any model that it loads while a global reference to a ZeRO 3 config exists.
    """
    reference = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = reference
