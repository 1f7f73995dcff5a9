"""DPO, GRPO and PPO beside plain TRL, on one model and one machine: `make bench-alignment`.

Every arm is a process of its own. In each round all arms run, one after another, so that a slow
minute of the machine meets them all; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.alignment.fixtures import (
    ANSWERS,
    BATCH,
    NEW_TOKENS,
    PAIRS,
    dpo_job,
    grpo_job,
    make,
    ppo_job,
)
from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.speed.contestants import Arm, Command, peer
from benchmarks.speed.process_monitor import ProcessUsage, run_arm

PREFERENCES = Path("../shared/data/preference/hh_rlhf_harmless_pairs.jsonl.gz")
TEXT = Path("../shared/data/sft/medquad_qa.parquet")
PLAIN_DPO, DPO, PRECOMPUTED = "TRL DPO", "Temper DPO", "Temper DPO, references precomputed"
WAYS = {"": "every weight", " (LoRA)": "LoRA"}
"""Behind the name of an arm: what of the model learns."""
PLAIN_GRPO, GRPO, PPO = "TRL GRPO", "Temper GRPO", "Temper PPO"
Outcomes = dict[str, list[ProcessUsage]]


def arms() -> list[Arm]:
    """Return who is compared."""
    scripts = "benchmarks.alignment.peers"
    found = []
    for way, lora in (("", False), (" (LoRA)", True)):
        plain, later = (partial(dpo_job, precompute=first, lora=lora) for first in (False, True))
        found += [
            Arm(PLAIN_DPO + way, peer(f"{scripts}.trl_dpo", *(["lora"] if lora else []))),
            Arm(DPO + way, _temper(plain)),
            Arm(PRECOMPUTED + way, _temper(later)),
        ]
    return [
        *found,
        Arm(PLAIN_GRPO, peer(f"{scripts}.trl_grpo")),
        Arm(GRPO, _temper(grpo_job)),
        Arm(PPO, _temper(ppo_job)),
    ]


def _temper(job_of: Callable[[Path, int], str]) -> Command:
    def command(material: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        job = folder / "job.yaml"
        job.write_text(job_of(material, steps))
        metrics = folder / "alignment" / "latest" / "metrics.jsonl"
        return [sys.executable, "-m", "training", str(job), "--runs", str(folder)], metrics

    return command


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--preferences", default=str(PREFERENCES), help="any source of pairs")
    parser.add_argument("--text", default=str(TEXT) if TEXT.exists() else "builtin:python-stdlib")
    asked = parser.parse_args()
    outcomes: Outcomes = {arm.name: [] for arm in arms()}
    with tempfile.TemporaryDirectory() as scratch:
        material = Path(scratch) / "material"
        make(asked.text, asked.preferences, material)
        for number in range(asked.rounds):
            for arm in arms():
                folder = Path(scratch) / f"{number}-{arm.name.replace(' ', '-').replace(',', '')}"
                outcome = run_arm(arm, material, asked.steps, asked.warm_up, folder)
                outcomes[arm.name].append(outcome)
                line = {"round": number, "arm": arm.name, **outcome.__dict__}
                print(json.dumps(line), flush=True)
    write_section("alignment", _section(outcomes, asked.rounds, Path(asked.preferences).name))


def _section(outcomes: Outcomes, rounds: int, pairs: str) -> str:
    pairs_header = ["", "learns", "CPU s a step", "to TRL DPO", "saved", "peak memory, GiB"]
    rows = [_pairs(outcomes, name, way) for way in WAYS for name in (PLAIN_DPO, DPO, PRECOMPUTED)]
    answers_header = [
        "",
        "CPU s a step",
        "sampling",
        "the rest",
        "answer tokens a CPU s",
        "to TRL GRPO",
    ]
    return f"""## Alignment speed

The Llama of 6.6M parameters of the training speed table, fp32 on CPU, {_threads()} for each arm.
{circumstances()} Medians of {_rounds(rounds)}; ratios are medians of those
within each round, of processors' time, which other work on the machine changes little.
`make bench-alignment`.

DPO on {BATCH} pairs a step, {PAIRS} of `{pairs}` that no peer has to cut. Precomputing takes one
pass over the data before the first step, which is not in these figures; "saved" is what a step
then takes less. A forward pass is one part of work and a backward pass two, or one where the
weights are frozen under an adapter: the reference is a fourth of a step, or a third.

{table(pairs_header, rows)}

{ANSWERS} answers of {NEW_TOKENS} tokens a step, each learned from once. TRL has no PPO any
more: its GRPO trains a policy (with the reference 4 parts of work, sampling apart), PPO a policy
and a critic, whose answers to what was sampled it needs beforehand (9 parts).

{table(answers_header, [_answers(outcomes, name) for name in (PLAIN_GRPO, GRPO, PPO)])}
"""


def _rounds(number: int) -> str:
    return "one round" if number == 1 else f"{number} rounds"


def _threads() -> str:
    number = torch.get_num_threads()
    return "one thread" if number == 1 else f"{number} threads"


def _pairs(outcomes: Outcomes, name: str, way: str) -> list[str]:
    seen, usual = outcomes[name + way], outcomes[DPO + way]
    saved = median(1 - a.cpu_s / b.cpu_s for a, b in zip(seen, usual, strict=True))
    return [
        name,
        WAYS[way],
        f"{median(o.cpu_s for o in seen):.2f}",
        _speed(outcomes, name + way, PLAIN_DPO + way),
        f"{saved:.0%}" if name == PRECOMPUTED else "",
        f"{median(o.peak_gib for o in seen):.2f}",
    ]


def _answers(outcomes: Outcomes, name: str) -> list[str]:
    seen = outcomes[name]
    sampling = median(o.sampling_s / o.step_s for o in seen)
    return [
        name,
        f"{median(o.cpu_s for o in seen):.2f}",
        f"{sampling:.0%}",
        f"{1 - sampling:.0%}",
        f"{median(ANSWERS * NEW_TOKENS / o.cpu_s for o in seen):,.0f}",
        _speed(outcomes, name, PLAIN_GRPO),
    ]


def _speed(outcomes: Outcomes, name: str, to: str) -> str:
    both = zip(outcomes[name], outcomes[to], strict=True)
    return f"{median(b.cpu_s / a.cpu_s for a, b in both):.2f}×"


if __name__ == "__main__":
    main()
