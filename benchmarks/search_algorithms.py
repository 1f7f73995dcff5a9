"""Comparison of TPE and random search at equal trials, on a table of trials really trained.

    python -m benchmarks.search_algorithms JOB FOLDER [SEEDS]

Every point of a grid is trained once, for a few steps. A search then reads the held-out loss of a
suggestion from the table, interpolated between the two nearest learning rates, so that a hundred
searches with other seeds cost seconds. The job is the contract's supervised fine-tuning on a CSV.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from evaluation.statistics.normal import t95
from search.config import SearchSettings, Value
from search.suggestions import suggest
from search.trials import distributions
from training.config.load import parse_job, read_document, write_key
from training.errors import GuardError

RATE, LAYERS, BATCH = "train.learning_rate", "model.freeze.layers", "train.global_batch_size"
PER_DECADE = 2
RATES = [10 ** (-5 + step / PER_DECADE) for step in range(6)]
NUM_LAYERS = [0, 2, 4]
BATCHES = [4, 8, 16]
TRIALS = (10, 20, 30)
_STEPS = 12
_FAILED = 20.0
"""Loss of a point whose training failed, to interpolate with."""
Point = tuple[float, int, int]


def main() -> None:
    """Train the table, if it is not trained yet, and print the comparison."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    job, folder = Path(sys.argv[1]), Path(sys.argv[2])
    seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    table = _table(job, folder)
    best = min(table.values())
    print(f"{len(table)} points trained, least held-out loss {best:.4f}")
    runs = [(_search(table, "tpe", s), _search(table, "random", s)) for s in range(seeds)]
    for trials in TRIALS:
        print(_line("tpe", trials, runs))


def _line(algorithm: str, trials: int, runs: list[tuple[list[float], list[float]]]) -> str:
    """Return the comparison of the best losses after a number of trials."""
    pairs = [(min(learned[:trials]), min(random[:trials])) for learned, random in runs]
    differences = [learned - random for learned, random in pairs]
    mean = statistics.fmean(differences)
    half = t95(len(pairs) - 1) * statistics.stdev(differences) / math.sqrt(len(pairs))
    wins = sum(difference < 0 for difference in differences)
    losses = sum(difference > 0 for difference in differences)
    first, second = (statistics.fmean(values) for values in zip(*pairs, strict=True))
    return (
        f"{algorithm} after {trials} trials: {first:.4f}, random {second:.4f}; difference "
        f"{mean:+.4f} (95 % interval {mean - half:+.4f} to {mean + half:+.4f}), better with "
        f"{wins} of {len(pairs)} seeds, worse with {losses}"
    )


def _table(job: Path, folder: Path) -> dict[Point, float]:
    """Return the held-out loss of every point, training those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    table: dict[Point, float] = {}
    for point in itertools.product(RATES, NUM_LAYERS, BATCHES):
        name = " ".join(f"{value:.6g}" for value in point)
        if name not in known:
            known[name] = _train(job, point, folder / "run")
            path.write_text(json.dumps(known))
        table[point] = known[name]
    return table


def _train(job: Path, point: Point, folder: Path) -> float:
    """Train a point for a few steps in this process, and return its held-out loss."""
    import shutil

    from training.pipeline import run
    from training.run_folder import RunFolder

    shutil.rmtree(folder, ignore_errors=True)
    document: Any = copy.deepcopy(read_document(job))
    document["train"].pop("num_train_epochs", None)
    values: dict[str, Value] = dict(zip((RATE, LAYERS, BATCH), point, strict=True))
    values |= {"train.max_steps": _STEPS, "train.early_stopping": None, "tracking.mlflow": False}
    values |= {"data.limit": 240, "evaluate.every": "none", "train.seed": 1}
    for key, value in values.items():
        write_key(document, key, value)
    with _silent():
        try:
            run(RunFolder.create(folder, parse_job(document, str(job))))
        except GuardError:
            return _FAILED
    measured = json.loads((folder / "evaluation.json").read_text())
    loss = float(measured["after"]["validation"]["loss"])
    return min(loss, _FAILED) if math.isfinite(loss) else _FAILED


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _search(table: dict[Point, float], algorithm: str, seed: int) -> list[float]:
    """Return the losses of the trials of one search, in order."""
    settings = SearchSettings.model_validate(
        {
            "space": {
                RATE: {"low": RATES[0], "high": RATES[-1], "log": True},
                LAYERS: {"low": NUM_LAYERS[0], "high": NUM_LAYERS[-1], "step": 2},
                BATCH: {"choices": BATCHES},
            },
            "algorithm": algorithm,
            "trials": max(TRIALS),
            "seed": seed,
        }
    )
    trials: list[Any] = []
    losses = []
    for _ in range(max(TRIALS)):
        values = suggest(settings, trials)
        loss = _interpolated(table, values)
        losses.append(loss)
        trials.append(
            create_trial(
                state=TrialState.COMPLETE,
                params=values,
                distributions=distributions(settings),
                value=loss,
            )
        )
    return losses


def _interpolated(table: dict[Point, float], values: dict[str, Any]) -> float:
    """Return the loss of a suggestion: linear in the logarithm of the learning rate."""
    place = (math.log10(values[RATE]) - math.log10(RATES[0])) * PER_DECADE
    below = min(int(place), len(RATES) - 2)
    share = min(1.0, max(0.0, place - below))
    low, high = (table[RATES[index], values[LAYERS], values[BATCH]] for index in (below, below + 1))
    return (1 - share) * low + share * high


if __name__ == "__main__":
    main()
