"""Rules of pipelines that span several settings."""

from collections.abc import Iterator

from stacks.settings.environment import Environment


def watched_deployments(environment: Environment) -> Iterator[str]:
    """Yield the deployments of pipelines that have no alarm which could start one."""
    known = {each.name: each for each in environment.serving.deployments}
    for index, pipeline in enumerate(environment.pipelines.retraining):
        for name in pipeline.deployments:
            key = f"pipelines.retraining.{index}.deployments"
            if name not in known:
                listed = ", ".join(known) or "none"
                yield f"{key}: {name} is not in serving.deployments, which has {listed}"
            elif known[name].watch is None:
                yield f"{key}: {name} is not watched, and has no alarm; give it watch in serving"
