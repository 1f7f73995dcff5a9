"""Stages of versions in MLflow: its aliases, and the tag that tells who set one.

MLflow keeps no time and no person of an alias. Temper writes both in a tag next to the alias; an
alias that does not agree with the tags was set or removed by someone in MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from registry.record import StageChange
from registry.remote.mlflow_tags import stage_from_tags

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
    if not _last_given(number, recorded, tags):
        return recorded  # Temper gave the alias to another version later
    if recorded.stage not in aliases:
        return StageChange("none", _SOMEONE, now)
    # The alias was moved to another version: only production is left by that.
    return StageChange("archived", _SOMEONE, now) if recorded.stage == "production" else recorded


def _last_given(number: int, change: StageChange, tags: Mapping[int, Mapping[str, str]]) -> bool:
    """Return True if no other version was given the same stage by Temper later."""
    others = (stage_from_tags(tags[other]) for other in tags if other != number)
    return all(o.time <= change.time for o in others if o.stage == change.stage)
