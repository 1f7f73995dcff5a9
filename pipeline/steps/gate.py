"""Step that decides whether steps after it may run."""

from __future__ import annotations

from pathlib import Path

from evaluation.promotion import decide_promotion
from evaluation.results import read_results
from pipeline.config import GateStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of
from pipeline.state import StepResult
from training.errors import RunError


class GateRunner:
    """Decides a gate on the results of an evaluation."""

    def key(self, context: PipelineContext, step: GateStep) -> str:
        """Return the digest of the results and the conditions."""
        settings = step.model_dump(mode="json")
        return digest_of(["gate", context.results[step.evaluation].digest, settings])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return True: a decision is all that the step gives."""
        return True

    def run(self, context: PipelineContext, step: GateStep) -> StepOutput:
        """Decide the gate.

        Raises:
            RunError: It is closed, and the file calls that an error.
        """
        decision = decide_promotion(
            step.conditions, read_results(Path(context.facts(step.evaluation)["folder"]))
        )
        for condition in decision.met:
            context.say(f"    met: {condition}")
        for condition in decision.unmet:
            context.say(f"    NOT met: {condition}")
        if not decision.is_open and step.otherwise == "fail":
            raise RunError("the gate is closed: " + "; ".join(decision.unmet))
        facts = {"open": decision.is_open, "unmet": list(decision.unmet)}
        word = "open" if decision.is_open else "closed"
        return StepOutput(digest_of(facts), facts, word)
