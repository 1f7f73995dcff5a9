"""Compare `temper evaluate` with lm-eval on the same items: `make bench-evaluate [ROUNDS=3]`.

Each contestant evaluates the suite in a process of its own, one after the other in each round, on
one thread. Figures are medians over the rounds; rates are of CPU time, which other load on the
machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.evaluate.fixtures import ITEMS_PER_TASK, NEW_TOKENS, write_fixtures
from benchmarks.evaluate.lm_eval_packages import LM_EVAL, install_lm_eval
from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA, ROOT

CONTESTANTS = ("lm-eval", "Temper")
KINDS = {"multiple_choice": 3, "perplexity": 3, "generation": 2}
"""Number of tasks of each kind."""
BATCH_SIZE = 16
_PEER = Path(__file__).with_name("peers") / "lm_eval_run.py"
_WORST_DIFFERENCE = 1e-4


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, help=f"default: {DATA}")
    parser.add_argument("--model", type=Path, help="default: models/stories260K-hf of the data")
    options = parser.parse_args()
    model = options.model or options.data / "models/stories260K-hf"
    if not model.is_dir():
        parser.error(f"{model} does not exist: name the folder of a model with --model")
    packages = install_lm_eval()
    outcomes: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as scratch:
        fixtures = Path(scratch) / "fixtures"
        write_fixtures(options.data, model.resolve(), fixtures)
        for number in range(options.rounds):
            for name in CONTESTANTS:
                out = Path(scratch) / f"{name}-{number}.json"
                _run(name, model.resolve(), fixtures, out, packages)
                outcomes[name].append(json.loads(out.read_text()))
                print(json.dumps({"round": number, "contestant": name, **outcomes[name][-1]}))
    _require_equal_metrics(outcomes)
    write_section("evaluate", _section(outcomes, model, options.rounds))


def _run(name: str, model: Path, fixtures: Path, out: Path, packages: Path) -> None:
    """Run a contestant in a process of its own.

    Raises:
        SystemExit: It failed; the message is the end of its output.
    """
    arguments = [str(model), str(fixtures), str(BATCH_SIZE), str(out)]
    command = [sys.executable, "-m", "benchmarks.evaluate.peers.temper_run", *arguments]
    path = [str(ROOT)]
    if name == "lm-eval":
        command = [sys.executable, str(_PEER), *arguments]
        path = [str(packages)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "HF_DATASETS_CACHE": str(out.with_suffix(".datasets")),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")


def _require_equal_metrics(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """Raise if the contestants did not compute the same.

    Raises:
        SystemExit: A metric differs.
    """
    theirs, ours = (outcomes[name][0]["tasks"] for name in CONTESTANTS)
    for task, metrics in theirs.items():
        for metric, value in metrics.items():
            got = ours[task][metric]
            if abs(got - value) > _WORST_DIFFERENCE:
                raise SystemExit(f"{task}.{metric} is {got}, in lm-eval {value}")


def _section(outcomes: dict[str, list[dict[str, Any]]], model: Path, rounds: int) -> str:
    def row(label: str, values: dict[str, list[float]], scale: float = 0.0) -> list[str]:
        """Return the cells of a line.

        Args:
            label: Name of the line.
            values: Seconds of each contestant in each round.
            scale: Number of items, to show items per second; 0 to show seconds.
        """
        shown = [
            f"{scale / median(values[name]) if scale else median(values[name]):.1f}"
            for name in CONTESTANTS
        ]
        pairs = zip(values["lm-eval"], values["Temper"], strict=True)
        return [label, *shown, f"{median(theirs / ours for theirs, ours in pairs):.2f}×"]

    rates = [
        row(
            f"{kind.replace('_', ' ')}, {tasks} tasks",
            {
                name: [one["request_cpu_seconds"][kind] for one in outcomes[name]]
                for name in outcomes
            },
            tasks * ITEMS_PER_TASK,
        )
        for kind, tasks in KINDS.items()
    ]
    whole = [
        row(label, {name: [one[key] for one in outcomes[name]] for name in outcomes})
        for label, key in (("CPU time, s", "cpu_seconds"), ("wall time, s", "seconds"))
    ]
    imports = [
        f"{median(outcome['import_seconds'] for outcome in outcomes[name]):.1f}"
        for name in CONTESTANTS
    ]
    return f"""## Evaluation

`temper evaluate` and {LM_EVAL} on the same items of public sets (MMLU, TruthfulQA, GSM8K,
BIG-Bench Hard, books) with the model `{model.name}`, fp32, batches of {BATCH_SIZE}, greedy answers
of at most {NEW_TOKENS} tokens, one thread each, the same torch and Transformers. Each contestant is
a process of its own; medians, and medians of the ratios within {rounds} alternating rounds.
Accuracies and bits per byte of the two are compared in each measurement, and are equal.
{circumstances(("torch", "transformers"))} `make bench-evaluate`.

Items per second of CPU time in the model's requests, tokenizing included:

{table(["", *CONTESTANTS, "Temper against lm-eval"], rates)}

The suite of 8 tasks × {ITEMS_PER_TASK} items as a whole, from reading it to the results, with
loading the model and, in Temper, intervals and the report. Imports ({imports[0]} and {imports[1]}
s) are not counted. Wall times depend on what else the machine does; its load was
{os.getloadavg()[2]:.0f}, the contestant included:

{table(["", *CONTESTANTS, "Temper against lm-eval"], whole)}
"""


if __name__ == "__main__":
    main()
