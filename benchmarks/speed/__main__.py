"""Compare training speed with plain TRL and a bare loop: `make bench [LLAMAFACTORY=COMMAND]`.

Every contestant runs in a separate process. In each round all contestants run one after another, so
that a slow minute of the machine affects all of them. Numbers are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.speed.contestants import contestants
from benchmarks.speed.fixtures import BATCH, LENGTH, write_fixtures
from benchmarks.speed.process_monitor import ProcessUsage, run_contestant

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
        "--only", help="names of contestants, separated by commas; print, write nothing"
    )
    parser.add_argument("--llamafactory", help="path of its command, in a separate environment")
    options = parser.parse_args()
    chosen = contestants(options.llamafactory)
    if options.only:
        chosen = [contestant for contestant in chosen if contestant.name in options.only.split(",")]
    outcomes: dict[str, list[ProcessUsage]] = {contestant.name: [] for contestant in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        fixtures = Path(scratch) / "fixtures"
        write_fixtures(options.data, fixtures)
        for number in range(options.rounds):
            for contestant in chosen:
                folder = (
                    Path(scratch) / f"{number}-{contestant.name.replace(' ', '-').replace('`', '')}"
                )
                outcome = run_contestant(
                    contestant, fixtures, options.steps, options.warm_up, folder
                )
                outcomes[contestant.name].append(outcome)
                print(
                    json.dumps(
                        {"round": number, "contestant": contestant.name, **outcome.__dict__}
                    ),
                    flush=True,
                )
    if options.only:
        return
    write_section("speed", _section(outcomes, options.data, options.rounds))


def _section(outcomes: dict[str, list[ProcessUsage]], data: str, rounds: int) -> str:
    def ratio(name: str, to: str) -> str:
        pairs = zip(outcomes[name], outcomes[to], strict=True)
        return f"{median(a.tokens_per_second / b.tokens_per_second for a, b in pairs):.2f}×"

    rows = [
        [
            name,
            f"{median(o.tokens_per_second for o in usages):,.0f}",
            ratio(name, BASE),
            ratio(name, PLAIN),
            f"{median(o.first_step_s for o in usages):.1f}",
            f"{median(o.peak_gib for o in usages):.2f}",
        ]
        for name, usages in outcomes.items()
    ]
    header = ["", "tokens/s", f"vs {BASE}", f"vs {PLAIN}", "first step, s", "peak memory, GiB"]
    return f"""## Training speed

A Llama of 6.6M parameters with random weights, fp32 on CPU, {BATCH} rows of {LENGTH} tokens per
step, data `{Path(data).name}`. Padding tokens are not counted. "First step" is the time from the
start of the command to the end of the first optimizer step, including reading and tokenizing the
data. "Peak memory" is that of the largest process. Ratios are medians of the ratios within each of
{rounds} rounds.
{circumstances()} `make bench`.

{table(header, rows)}
"""


if __name__ == "__main__":
    main()
