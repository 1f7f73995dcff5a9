"""Training speed against plain TRL and a bare loop: `make bench [LLAMAFACTORY=COMMAND]`.

Every arm is a process of its own. In each round all arms run, one after another, so that a slow
minute of the machine meets them all; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.speed.contestants import arms
from benchmarks.speed.fixtures import BATCH, LENGTH, make_material
from benchmarks.speed.process_monitor import ProcessUsage, run_arm

SHARED = Path("../shared/data/sft/medquad_qa.parquet")
BASE = "bare loop"
PLAIN = "TRL default"


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument(
        "--data", default=str(SHARED) if SHARED.exists() else "builtin:python-stdlib"
    )
    parser.add_argument(
        "--only", help="only arms of these names, by commas; prints, writes nothing"
    )
    parser.add_argument("--llamafactory", help="path of its command, in its own environment")
    asked = parser.parse_args()
    chosen = arms(asked.llamafactory)
    if asked.only:
        chosen = [arm for arm in chosen if arm.name in asked.only.split(",")]
    outcomes: dict[str, list[ProcessUsage]] = {arm.name: [] for arm in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        material = Path(scratch) / "material"
        make_material(asked.data, material)
        for number in range(asked.rounds):
            for arm in chosen:
                folder = Path(scratch) / f"{number}-{arm.name.replace(' ', '-').replace('`', '')}"
                outcome = run_arm(arm, material, asked.steps, asked.warm_up, folder)
                outcomes[arm.name].append(outcome)
                print(
                    json.dumps({"round": number, "arm": arm.name, **outcome.__dict__}), flush=True
                )
    if asked.only:
        return
    write_section("speed", _section(outcomes, asked.data, asked.rounds))


def _section(outcomes: dict[str, list[ProcessUsage]], data: str, rounds: int) -> str:
    def ratio(name: str, to: str) -> str:
        pairs = zip(outcomes[name], outcomes[to], strict=True)
        return f"{median(a.tokens_per_second / b.tokens_per_second for a, b in pairs):.2f}×"

    rows = [
        [
            name,
            f"{median(o.tokens_per_second for o in seen):,.0f}",
            ratio(name, BASE),
            ratio(name, PLAIN),
            f"{median(o.first_step_s for o in seen):.1f}",
            f"{median(o.peak_gib for o in seen):.2f}",
        ]
        for name, seen in outcomes.items()
    ]
    header = ["", "tokens/s", f"to {BASE}", f"to {PLAIN}", "first step, s", "peak memory, GiB"]
    return f"""## Training speed

Llama of 6.6M parameters from random weights, fp32 on CPU, rows of {LENGTH} tokens, {BATCH} a step,
data `{Path(data).name}`. Tokens are real ones: padding is not counted. "First step" is from the
command to the end of the first optimizer step, reading and tokenizing the data included. "Peak
memory" is the largest process. Ratios are medians of the ratios within each of {rounds} rounds.
{circumstances()} `make bench`.

{table(header, rows)}
"""


if __name__ == "__main__":
    main()
