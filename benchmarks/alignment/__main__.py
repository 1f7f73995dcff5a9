"""Compare DPO, GRPO and PPO with plain TRL, on one model and machine: `make bench-alignment`.

Every contestant runs in a separate process. In each round all contestants run one after another, so
that a slow minute of the machine affects all of them. Numbers are medians over the rounds.
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
    ppo_job,
    write_alignment_fixtures,
)
from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.speed.contestants import Command, Contestant, peer
from benchmarks.speed.process_monitor import ProcessUsage, run_contestant

PREFERENCES = Path("../shared/data/preference/hh_rlhf_harmless_pairs.jsonl.gz")
TEXT = Path("../shared/data/sft/medquad_qa.parquet")
PLAIN_DPO, DPO, PRECOMPUTED = "TRL DPO", "Temper DPO", "Temper DPO, references precomputed"
TRAINED = {"": "all weights", " (LoRA)": "LoRA"}
"""The trained parameters, by the suffix of a contestant's name."""
PLAIN_GRPO, GRPO, PPO = "TRL GRPO", "Temper GRPO", "Temper PPO"
Outcomes = dict[str, list[ProcessUsage]]


def contestants() -> list[Contestant]:
    """Return the contestants."""
    scripts = "benchmarks.alignment.peers"
    dpo: list[Contestant] = []
    for suffix, lora in (("", False), (" (LoRA)", True)):
        online, precomputed = (
            partial(dpo_job, precompute=first, lora=lora) for first in (False, True)
        )
        dpo += [
            Contestant(PLAIN_DPO + suffix, peer(f"{scripts}.trl_dpo", *(["lora"] if lora else []))),
            Contestant(DPO + suffix, _temper(online)),
            Contestant(PRECOMPUTED + suffix, _temper(precomputed)),
        ]
    return [
        *dpo,
        Contestant(PLAIN_GRPO, peer(f"{scripts}.trl_grpo")),
        Contestant(GRPO, _temper(grpo_job)),
        Contestant(PPO, _temper(ppo_job)),
    ]


def _temper(job_of: Callable[[Path, int], str]) -> Command:
    def command(fixtures: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        job = folder / "job.yaml"
        job.write_text(job_of(fixtures, steps))
        metrics = folder / "alignment" / "latest" / "metrics.jsonl"
        return [sys.executable, "-m", "training", str(job), "--runs", str(folder)], metrics

    return command


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--preferences", default=str(PREFERENCES), help="a data source of pairs")
    parser.add_argument("--text", default=str(TEXT) if TEXT.exists() else "builtin:python-stdlib")
    options = parser.parse_args()
    outcomes: Outcomes = {contestant.name: [] for contestant in contestants()}
    with tempfile.TemporaryDirectory() as scratch:
        fixtures = Path(scratch) / "fixtures"
        write_alignment_fixtures(options.text, options.preferences, fixtures)
        for number in range(options.rounds):
            for contestant in contestants():
                folder = (
                    Path(scratch) / f"{number}-{contestant.name.replace(' ', '-').replace(',', '')}"
                )
                outcome = run_contestant(
                    contestant, fixtures, options.steps, options.warm_up, folder
                )
                outcomes[contestant.name].append(outcome)
                line = {"round": number, "contestant": contestant.name, **outcome.__dict__}
                print(json.dumps(line), flush=True)
    write_section("alignment", _section(outcomes, options.rounds, Path(options.preferences).name))


def _section(outcomes: Outcomes, rounds: int, pairs: str) -> str:
    pairs_header = ["", "trained", "CPU s per step", "vs TRL DPO", "saved", "peak memory, GiB"]
    rows = [
        _pairs(outcomes, name, suffix)
        for suffix in TRAINED
        for name in (PLAIN_DPO, DPO, PRECOMPUTED)
    ]
    answers_header = [
        "",
        "CPU s per step",
        "sampling",
        "learning",
        "answer tokens per CPU s",
        "vs TRL GRPO",
    ]
    return f"""## Alignment speed

The Llama of 6.6M parameters of the training speed table, fp32 on CPU, {_threads()} each.
{circumstances()} Medians of {_rounds(rounds)}. Ratios are medians of the ratios
within each round, of CPU time, which other load on the machine changes little.
`make bench-alignment`.

DPO on {BATCH} pairs per step, from {PAIRS} pairs of `{pairs}` that fit without truncation.
Precomputing the reference takes one pass over the data before the first step, which these numbers
do not include; "saved" is the time it saves per step. A forward pass is one unit of work and a
backward pass two, or one if the weights are frozen under an adapter, so the reference is a quarter
of a step, or a third.

{table(pairs_header, rows)}

{ANSWERS} answers of {NEW_TOKENS} tokens per step, each used once. TRL no longer has PPO, so PPO is
compared with its GRPO. Without sampling, GRPO with a reference is 4 units of work; PPO, which also
trains a critic and first evaluates both on the samples, is 9.

{table(answers_header, [_answers(outcomes, name) for name in (PLAIN_GRPO, GRPO, PPO)])}
"""


def _rounds(number: int) -> str:
    return "one round" if number == 1 else f"{number} rounds"


def _threads() -> str:
    number = torch.get_num_threads()
    return "one thread" if number == 1 else f"{number} threads"


def _pairs(outcomes: Outcomes, name: str, suffix: str) -> list[str]:
    usages, baseline = outcomes[name + suffix], outcomes[DPO + suffix]
    saved = median(1 - a.cpu_s / b.cpu_s for a, b in zip(usages, baseline, strict=True))
    return [
        name,
        TRAINED[suffix],
        f"{median(o.cpu_s for o in usages):.2f}",
        _speed(outcomes, name + suffix, PLAIN_DPO + suffix),
        f"{saved:.0%}" if name == PRECOMPUTED else "",
        f"{median(o.peak_gib for o in usages):.2f}",
    ]


def _answers(outcomes: Outcomes, name: str) -> list[str]:
    usages = outcomes[name]
    sampling = median(o.sampling_s / o.step_s for o in usages)
    return [
        name,
        f"{median(o.cpu_s for o in usages):.2f}",
        f"{sampling:.0%}",
        f"{1 - sampling:.0%}",
        f"{median(ANSWERS * NEW_TOKENS / o.cpu_s for o in usages):,.0f}",
        _speed(outcomes, name, PLAIN_GRPO),
    ]


def _speed(outcomes: Outcomes, name: str, to: str) -> str:
    pairs = zip(outcomes[name], outcomes[to], strict=True)
    return f"{median(b.cpu_s / a.cpu_s for a, b in pairs):.2f}×"


if __name__ == "__main__":
    main()
