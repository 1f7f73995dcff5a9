"""Step that evaluates a challenger on a suite, paired with the version in production."""

from __future__ import annotations

from pathlib import Path

from catalog.exit_codes import RUN_FAILED
from evaluation.config.suite import Suite, load_suite
from evaluation.results import EvaluationResult, read_results
from pipeline.champion import find_champion
from pipeline.config import PRODUCTION, EvaluateStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of, path_digest
from pipeline.state import StepResult
from registry.checkout import checkout
from training.errors import RunError


class EvaluateRunner:
    """Runs `temper evaluate` into the folder of the run, where the registry looks for evidence."""

    def key(self, context: PipelineContext, step: EvaluateStep) -> str:
        """Return the digest of the model and the suite.

        The version in production is no part of it: once the challenger was promoted it would be
        compared with itself.
        """
        suite = self._suite(context, step)
        data = [path_digest(Path(task.data.path)) for task in suite.tasks]
        against = None if step.against == PRODUCTION else step.against
        settings = [suite.model_dump(mode="json"), data, against]
        return digest_of(["evaluate", context.results[step.model].digest, settings])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return whether the results still exist."""
        return _results(Path(result.facts["folder"])) is not None

    def run(self, context: PipelineContext, step: EvaluateStep) -> StepOutput:
        """Evaluate the model.

        Raises:
            RunError: The evaluation failed.
        """
        suite = self._suite(context, step)
        run = Path(context.facts(step.model)["folder"])
        out = run / "evaluation" / suite.suite
        champion, options = self._against(context, step)
        context.commands.temper(
            *(context.log, "evaluate", str(run), str(context.pipeline.file(step.suite))),
            *("--out", str(out), *options),
            # Also the code of a gate of the suite that is not passed, which is a result.
            allowed=(0, RUN_FAILED),
        )
        result = _results(out)
        if result is None:
            raise RunError(f"the evaluation failed; its log is {context.log}")
        return StepOutput(
            digest_of(result.to_json()),
            {"folder": str(out), "champion": champion},
            f"{out}, {'against ' + champion if champion else 'nothing to compare with yet'}",
        )

    def _against(
        self, context: PipelineContext, step: EvaluateStep
    ) -> tuple[str | None, tuple[str, ...]]:
        """Return the name of the model to compare with, and the options of the command."""
        if step.against != PRODUCTION:
            return (step.against, ("--against", step.against)) if step.compares else (None, ())
        champion = find_champion(context.store, context.name)
        if champion is None:
            return None, ()
        return champion.id, ("--against", str(checkout(context.registry, champion)))

    def _suite(self, context: PipelineContext, step: EvaluateStep) -> Suite:
        return load_suite(context.pipeline.file(step.suite), against=step.compares)


def _results(folder: Path) -> EvaluationResult | None:
    try:
        return read_results(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
