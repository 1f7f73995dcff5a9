"""Step that serves a version behind a name; if it is rolled back, so is its stage."""

from __future__ import annotations

from pipeline.config import DeployStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of
from pipeline.state import StepResult
from training.errors import RunError


class DeployRunner:
    """Runs `temper deploy-model`, or `temper swap` if the name serves another version."""

    def key(self, context: PipelineContext, step: DeployStep) -> str:
        """Return the digest of the version and of how it is served."""
        settings = step.model_dump(mode="json")
        if step.file is not None:
            settings["content"] = context.pipeline.file(step.file).read_text(encoding="utf-8")
        return digest_of(["deploy", context.results[step.version].digest, settings, context.env])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return True: what has happened to a deployment since is not the pipeline's to repeat."""
        return True

    def run(self, context: PipelineContext, step: DeployStep) -> StepOutput:
        """Deploy the version, or swap it in.

        A swap that the service, an alarm or a golden prompt has undone is a result: `rolled_back`.

        Raises:
            RunError: The deployment failed.
        """
        version = str(context.facts(step.version)["version"])
        before = self._serving(context, step, version)
        swaps = before not in (None, version)
        options = [*context.env_options, *_options(context, step, swaps=swaps)]
        command = "swap" if swaps else "deploy-model"
        try:
            context.commands.temper(context.log, command, version, *options)
        except RunError:
            if not swaps or self._serving(context, step, version) != before:
                raise
            restored = self._restore(context, step)
            facts = {"version": before, "rolled_back": restored}
            return StepOutput(digest_of(facts), facts, restored)
        return StepOutput(digest_of([version, options]), {"version": version}, f"{version} serves")

    def _restore(self, context: PipelineContext, step: DeployStep) -> str:
        """Put the version before back into production, which serves after a failed swap.

        Returns:
            What was done.
        """
        facts = context.facts(step.version)
        previous = facts.get("previous")
        if previous is not None and facts["stage"] == "production":
            context.commands.temper(
                context.log,
                *("promote", str(previous), "production", *context.env_options),
                *("--registry", str(context.registry)),
                *("--reason", f"pipeline {context.name}: {facts['version']} was rolled back"),
            )
            return f"{facts['version']} was rolled back; {previous} is in production again"
        return f"{facts['version']} was rolled back; the version before serves"

    def _serving(self, context: PipelineContext, step: DeployStep, version: str) -> str | None:
        """Return the version that serves behind the name of the deployment; None for none."""
        from deployment.account import connect_account
        from deployment.spec import read_spec
        from deployment.targets.base import connect_target

        assert context.env is not None
        file = None if step.file is None else context.pipeline.file(step.file)
        values = {
            "model": version,
            "to": step.to,
            "name": step.name,
            "instance": step.instance,
            "end": {"idle_hours": step.idle_hours, "forever": step.forever},
        }
        spec = read_spec(file, values)
        found = connect_target(spec.to, connect_account(context.env)).find(spec.name)
        return None if found is None or found.state == "failed" else found.model


def _options(context: PipelineContext, step: DeployStep, *, swaps: bool) -> list[str]:
    """Return the options of the command.

    Args:
        context: The pipeline.
        step: The step.
        swaps: True for `temper swap`, which keeps the kind and the end of the deployment.
    """
    values = {"--name": step.name, "--instance": step.instance, "--rollout": step.rollout}
    if step.file is not None:
        values["--file"] = str(context.pipeline.file(step.file))
    if not swaps:
        values |= {"--to": step.to, "--forever": step.forever}
        values["--idle"] = None if step.idle_hours is None else str(step.idle_hours)
    words = [word for key, value in values.items() if value is not None for word in (key, value)]
    if step.chat is not None:
        words.append("--chat" if step.chat else "--no-chat")
    return words
