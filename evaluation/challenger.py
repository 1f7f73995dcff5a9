"""Evaluation of a challenger in a job of a pipeline, with the decision of each gate.

`python -m evaluation challenger MODEL SUITE --out FOLDER` is what the container of an evaluation
step runs; `decisions.json` is what the conditions of the pipeline read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.gates import GateError
from evaluation.promotion import PromotionConditions, decide_promotion
from evaluation.results import read_results
from training.console import say
from training.errors import TemperError
from training.run_folder import write_whole

DECISIONS = "decisions.json"
OPEN, CLOSED = "open", "closed"
NO_CHAMPION = "NO-VERSION-IN-PRODUCTION"
"""Only file of the folder that stands for no model."""
_MODEL_FILES = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class ChallengerOptions:
    """Options of the evaluation of a challenger.

    Attributes:
        model: Folder of the model.
        suite: Folder of the suite.
        out: Folder of the results.
        against: Folder of the model in production; it has no model if no version is.
        gates: File of the conditions of each gate; None for no gate.
    """

    model: Path
    suite: Path
    out: Path
    against: Path | None = None
    gates: Path | None = None


def evaluate_challenger(options: ChallengerOptions) -> int:
    """Evaluate a model, decide the gates, and return the exit code.

    Raises:
        TemperError: The suite, its items or a model cannot be used.
    """
    against = options.against if options.against and _has_model(options.against) else None
    if against is None:
        say("no version is in production to compare with")
    name = None if against is None else str(against)
    try:
        run_evaluation(EvaluateOptions(str(options.model), options.suite, name, options.out))
    except GateError as error:
        say(str(error))  # a result, which closes every gate
    result = read_results(options.out)
    decisions = {}
    for gate, conditions in _conditions(options.gates).items():
        decision = decide_promotion(conditions, result)
        word = OPEN if decision.is_open else CLOSED
        decisions[gate] = {"decision": word, "met": decision.met, "unmet": decision.unmet}
        say(f"gate {gate} is {word}: {'; '.join(decision.unmet or decision.met)}")
    write_whole(options.out / DECISIONS, json.dumps(decisions, indent=1) + "\n")
    return 0


def _has_model(folder: Path) -> bool:
    """Return whether a folder has a model; without one, it must say so.

    A gate whose comparison is left out is open, so that nothing else may count as no model.

    Raises:
        TemperError: It has neither a model nor the file that stands for none.
    """
    if any((folder / name).is_file() for name in _MODEL_FILES):
        return True
    found = sorted(path.name for path in folder.glob("*"))
    if found == [NO_CHAMPION]:
        return False
    raise TemperError(
        f"{folder} is the version in production, and has no model: {', '.join(found) or 'no file'}"
    )


def _conditions(path: Path | None) -> Mapping[str, PromotionConditions]:
    document = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    return {name: PromotionConditions.model_validate(one) for name, one in document.items()}
