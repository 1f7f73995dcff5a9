"""Stages of versions in MLflow: its aliases, and the tag that tells who set one.

MLflow keeps no time and no person of an alias. Temper writes both in a tag next to the alias; an
alias that does not agree with the tags was set or removed by someone in MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from registry.record import StageChange
from registry.remote.mlflow_tags import STAGE, stage_from_tags, stage_tag
from registry.remote.mlflow_versions import aliases_of, versions_by_model

ALIASES = ("production", "staging", "candidate")
"""Stages that are aliases, the highest first. `archived` and `none` have no alias."""

_SOMEONE = "someone in MLflow"


def current_change(
    number: int, tags: Mapping[int, Mapping[str, str]], aliases: Mapping[str, int]
) -> StageChange:
    """Return the last change of a version's stage; an alias set in MLflow was set just now.

    Args:
        number: MLflow's number of the version.
        tags: Tags of every version of the model by number.
        aliases: Number of the version that has each alias.
    """
    recorded = stage_from_tags(tags[number])
    held = next((alias for alias in ALIASES if aliases.get(alias) == number), None)
    if held == recorded.stage or (held is None and recorded.stage not in ALIASES):
        return recorded
    now = time.strftime("%FT%TZ", time.gmtime())
    if held is not None:
        return StageChange(held, _SOMEONE, now)
    if _given_later(number, recorded, tags):
        return recorded  # Temper gave the alias to another version later
    if recorded.stage not in aliases:
        return StageChange("none", _SOMEONE, now)
    # The alias was moved to another version: only production is left by that.
    return StageChange("archived", _SOMEONE, now) if recorded.stage == "production" else recorded


def change_stage(client: Any, name: str, number: int, transition: StageChange) -> None:
    """Set the alias of a stage and the tag that tells who set it; repeating it changes nothing.

    A crash in between leaves a state that reads as the new stage.

    Args:
        client: MLflow client.
        name: Name of the model.
        number: MLflow's number of the version.
        transition: The change.
    """
    tags = {n: version.tags for n, version in versions_by_model(client, name)[name].items()}
    aliases = aliases_of(client, name)
    is_current = current_change(number, tags, aliases) == transition
    if is_current and stage_from_tags(tags[number]) == transition:
        return
    if transition.stage in ALIASES and not _given_later(number, transition, tags):
        client.set_registered_model_alias(name, transition.stage, str(number))
    for alias in ALIASES:
        if alias != transition.stage and aliases.get(alias) == number:
            others = _in_stage(alias, number, tags)
            if others:
                latest = max(others, key=lambda other: others[other].time)
                client.set_registered_model_alias(name, alias, str(latest))
            else:
                client.delete_registered_model_alias(name, alias)
    client.set_model_version_tag(name, str(number), STAGE, stage_tag(transition))


def _given_later(number: int, change: StageChange, tags: Mapping[int, Mapping[str, str]]) -> bool:
    """Return True if another version was given the same stage by Temper later.

    Args:
        number: MLflow's number of the version.
        change: Its change.
        tags: Tags of every version of the model by number.
    """
    others = _in_stage(change.stage, number, tags).values()
    return any(other.time > change.time for other in others)


def _in_stage(
    stage: str, number: int, tags: Mapping[int, Mapping[str, str]]
) -> dict[int, StageChange]:
    """Return the other versions that Temper gave a stage.

    Args:
        stage: The stage.
        number: MLflow's number of the version to leave out.
        tags: Tags of every version of the model by number.
    """
    changes = {other: stage_from_tags(tags[other]) for other in tags if other != number}
    return {other: change for other, change in changes.items() if change.stage == stage}
