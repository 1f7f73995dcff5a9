"""Step that registers a model as a version, once, and sets its stage."""

from __future__ import annotations

from pipeline.champion import find_champion
from pipeline.config import RegisterStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of
from pipeline.state import StepResult
from registry.record import ModelRecord
from training.errors import RunError


class RegisterRunner:
    """Runs `temper register` and `temper promote`."""

    def key(self, context: PipelineContext, step: RegisterStep) -> str:
        """Return the digest of the model, its run and its place."""
        model = context.results[step.model]
        return digest_of(
            ["register", model.digest, model.facts["run"], context.name, step.stage, context.env]
        )

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return whether the version is in the registry, whatever its stage is by now."""
        version = result.facts["version"]
        return any(record.id == version for record in context.store.records(context.name))

    def run(self, context: PipelineContext, step: RegisterStep) -> StepOutput:
        """Register the model, unless an interrupted start has, and set its stage.

        Raises:
            RunError: The registry does not have it afterwards.
        """
        facts = context.facts(step.model)
        place = ("--registry", str(context.registry))
        champion = find_champion(context.store, context.name)
        record = _record_of(context, facts["run"])
        if record is None:
            context.commands.temper(
                context.log, "register", facts["folder"], "--name", context.name, *place
            )
            record = _record_of(context, facts["run"])
        if record is None:
            raise RunError(f"the registry {context.registry} has no version of {facts['run']}")
        if context.env is not None:
            # Also after an interruption: pushing a version again changes nothing.
            context.commands.temper(
                context.log, "push-model", record.id, *context.env_options, *place
            )
        if record.stage != step.stage:
            context.commands.temper(
                context.log,
                *("promote", record.id, step.stage, *context.env_options, *place),
                *("--reason", f"pipeline {context.name}: {', '.join(step.gate) or 'no gate'}"),
            )
        previous = champion.id if champion and champion.id != record.id else None
        return StepOutput(
            digest_of(record.id),
            {"version": record.id, "stage": step.stage, "previous": previous},
            f"{record.id} is {step.stage}",
        )


def _record_of(context: PipelineContext, run: str) -> ModelRecord | None:
    """Return the version that was registered from a run; None if there is none."""
    return next((r for r in context.store.records(context.name) if r.provenance.run == run), None)
