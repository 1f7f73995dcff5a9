"""PPO and GRPO: the first step starts at the reference, and the policy moves away from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured
from benchmarks.gpu.runs import train
from benchmarks.gpu.scale import Scale

SOURCE = "sampled and trained by the same weights, so the KL divergence of the first step is 0"


def cases(scale: Scale) -> Iterator[Case]:
    """Yield both methods with a LoRA adapter, in bf16 and fp32."""
    for precision in ("fp32", "bf16"):
        for method in ("grpo", "ppo"):
            run = partial(_train, scale, method, precision)
            name = f"{method.upper()}, LoRA, {precision}"
            yield Case(name, run, is_slow=(method, precision) in _SLOW)


_SLOW = (("grpo", "bf16"), ("ppo", "fp32"))
"""Combinations that the slow tests run on a CPU; the fast tests run the other two."""


def _train(scale: Scale, method: str, precision: str, folder: Path) -> Measured:
    new = 128 if scale.on_gpu else 8
    section: dict[str, Any] = {
        "kind": method,
        "reward": [{"kind": "length", "min_words": 2, "max_words": 6}],
        "rollout": {"max_new_tokens": new},
    }
    if method == "grpo":
        section |= {"num_generations": 4, "beta": 0.02}
    else:
        section["rollout"]["batch"] = 8
    document = scale.job(
        "1B",
        rows="prompts",
        method=section,
        precision=precision,
        adapter={"kind": "lora", "r": 16},
        data={"max_length": 64},
        train={"max_steps": 4, "global_batch_size": 8, "micro_batch_size": 4},
    )
    run = train(document, folder / "run")
    measured = {
        **run.summary(),
        "rewards": [step["reward"] for step in run.steps],
        "kl": [step["kl"] for step in run.steps],
        "new_tokens": new,
        "source": SOURCE,
    }
    kl, rewards = measured["kl"], measured["rewards"]
    if not all(map(math.isfinite, [*kl, *rewards])):
        raise CaseFailedError("a reward or a KL divergence is not finite", measured)
    if abs(kl[0]) > 1e-6:
        raise CaseFailedError(f"the first step is {kl[0]} away from its reference", measured)
    if not any(kl[1:]):
        raise CaseFailedError("the policy did not move", measured)
    return measured
