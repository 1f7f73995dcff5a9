"""Step that prepares data. The preparation itself decides whether its sources have changed."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.config import PrepareStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of, path_digest
from pipeline.job_overrides import override_words
from pipeline.state import StepResult


class PrepareRunner:
    """Runs `temper prepare`, which finds a data set that it built of the same sources."""

    def key(self, context: PipelineContext, step: PrepareStep) -> str:
        """Return the digest of the job; its sources are compared by the preparation itself."""
        text = context.pipeline.file(step.job).read_text(encoding="utf-8")
        return digest_of(["prepare", text, step.set])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return False: the sources have to be compared again."""
        return False

    def run(self, context: PipelineContext, step: PrepareStep) -> StepOutput:
        """Prepare the data set, and return its folder."""
        from preparation.command import PREPARED_ALREADY

        outcome = (context.place / "outcome.json").absolute()
        job = context.pipeline.file(step.job)
        words = override_words(step.set)
        options = ("--set", *words) if words else ()
        context.say(f"  $ temper prepare {job}")
        output = context.commands.run(
            context.log,
            *("-m", "preparation", str(job), *options),
            f"--outcome={outcome}",
        )
        data_set = Path(json.loads(outcome.read_text())["message"].splitlines()[-1])
        unchanged = PREPARED_ALREADY in output
        return StepOutput(
            path_digest(data_set, "*.parquet"),
            {"folder": str(data_set), "unchanged": unchanged},
            f"{data_set}{', prepared before' if unchanged else ''}",
        )
