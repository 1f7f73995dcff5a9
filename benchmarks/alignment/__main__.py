"""DPO and PPO beside plain TRL, on one model and one machine: `make bench-alignment`.

Every arm is a process of its own. In each round all arms run, one after another, so that a slow
minute of the machine meets them all; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.alignment.material import (
    ANSWERS,
    BATCH,
    NEW_TOKENS,
    PAIRS,
    dpo_job,
    make,
    ppo_job,
)
from benchmarks.page import circumstances, table, write_section
from benchmarks.speed.arms import Arm, Command, peer
from benchmarks.speed.watch import Outcome, run_arm

PREFERENCES = Path("../shared/data/preference/hh_rlhf_harmless_pairs.jsonl.gz")
TEXT = Path("../shared/data/sft/medquad_qa.parquet")
DPO, PPO = "Temper DPO", "Temper PPO"
PLAIN_DPO, PLAIN_GRPO = "TRL DPO", "TRL GRPO"
PRECOMPUTED = "Temper DPO, references precomputed"
Outcomes = dict[str, list[Outcome]]


def arms() -> list[Arm]:
    """Return who is compared."""
    scripts = "benchmarks.alignment.peers"
    return [
        Arm(PLAIN_DPO, peer(f"{scripts}.trl_dpo")),
        Arm(DPO, _temper(lambda m, n: dpo_job(m, n, precompute=False))),
        Arm(PRECOMPUTED, _temper(lambda m, n: dpo_job(m, n, precompute=True))),
        Arm(PLAIN_GRPO, peer(f"{scripts}.trl_grpo")),
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
    pairs_header = ["", "s a step", "to TRL DPO", "peak memory, GiB"]
    answers_header = [
        "",
        "s a step",
        "sampling, s",
        "the rest, s",
        "answer tokens/s",
        "to TRL GRPO",
    ]
    return f"""## Alignment speed

The Llama of 6.6M parameters of the training speed table, fp32 on CPU. {circumstances()} Medians of
{rounds} rounds; ratios are medians of the ratios within each round. `make bench-alignment`.

DPO on {BATCH} pairs a step, {PAIRS} of `{pairs}` that no peer has to cut. Precomputing takes one
pass over the data before the first step, which is not in these figures.

{table(pairs_header, [_pairs(outcomes, name) for name in (PLAIN_DPO, DPO, PRECOMPUTED)])}

{ANSWERS} answers of {NEW_TOKENS} tokens a step, each learned from once. TRL has no PPO any
more: its GRPO trains a policy, ours a policy and a critic.

{table(answers_header, [_answers(outcomes, name) for name in (PLAIN_GRPO, PPO)])}
"""


def _pairs(outcomes: Outcomes, name: str) -> list[str]:
    seen = outcomes[name]
    return [
        name,
        f"{median(o.step_s for o in seen):.2f}",
        _speed(outcomes, name, PLAIN_DPO),
        f"{median(o.peak_gib for o in seen):.2f}",
    ]


def _answers(outcomes: Outcomes, name: str) -> list[str]:
    seen = outcomes[name]
    return [
        name,
        f"{median(o.step_s for o in seen):.2f}",
        f"{median(o.sampling_s for o in seen):.2f}",
        f"{median(o.step_s - o.sampling_s for o in seen):.2f}",
        f"{median(ANSWERS * NEW_TOKENS / o.step_s for o in seen):,.0f}",
        _speed(outcomes, name, PLAIN_GRPO),
    ]


def _speed(outcomes: Outcomes, name: str, to: str) -> str:
    both = zip(outcomes[name], outcomes[to], strict=True)
    return f"{median(b.step_s / a.step_s for a, b in both):.2f}×"


if __name__ == "__main__":
    main()
