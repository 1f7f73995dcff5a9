"""Judges of an evaluation: built from their sections, with the cost of their calls announced."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.judging.family import family_of
from training.config.judges import Endpoint, JudgeSection, LocalJudge
from training.data.schema.rows import Message
from training.judges.base import Judge, JudgeContext, JudgeUsage, build_judge
from training.judges.cost_ledger import count_characters
from training.judges.http_client import HttpJudge

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedJudge:
    """Judge of a panel.

    Attributes:
        name: Name of its model.
        judge: The judge.
        retries: Number of times an unusable reply is requested again.
        usage: Its questions and unusable replies.
    """

    name: str
    judge: Judge
    retries: int
    usage: JudgeUsage

    @property
    def spent_usd(self) -> float:
        """Cost of all judges' calls of this evaluation so far, in USD."""
        return self.judge.ledger.spent_usd_of_role if isinstance(self.judge, HttpJudge) else 0.0


def build_judges(
    sections: Sequence[JudgeSection], context: JudgeContext, model: str
) -> list[NamedJudge]:
    """Return the judges of a panel; warns of one of the same family as the evaluated model.

    Args:
        sections: Sections of the judges.
        context: Device, folder, cache and cost limit.
        model: The evaluated model, as the user wrote it.

    Raises:
        RunError: A key is not set, or a cost limit is set and a price is not.
        ModelError: A local judge cannot be read.
    """
    judges = []
    for section in sections:
        name = judge_name(section)
        family = same_family(name, model)
        if family:
            logger.warning(
                "the judge %s is of the same family (%s) as the evaluated model %s: judges rate "
                "answers of their own family higher. Add a judge of another family to judges:",
                *(name, family, model),
            )
        judge = build_judge(section, context)
        judges.append(NamedJudge(name, judge, section.retries, JudgeUsage()))
    return judges


def judge_name(section: JudgeSection) -> str:
    """Return the name of the model that judges."""
    if isinstance(section, Endpoint):
        return section.model
    return str(section.source) if isinstance(section, LocalJudge) else section.impl


def same_family(judge: str, model: str) -> str | None:
    """Return the family of a judge and a model; None if they are of two, or one is not known."""
    family = family_of(judge)
    return family if family is not None and family == family_of(model) else None


def announce_cost(judge: NamedJudge, questions: Sequence[list[Message]]) -> None:
    """Log what the calls of a judge can cost, before the first."""
    if not isinstance(judge.judge, HttpJudge):
        return
    uncached = judge.judge.uncached(questions)
    usd = sum(judge.judge.max_usd(1, count_characters(question)) for question in uncached)
    logger.info(
        "judge %s: %d questions, of which %d have a cached reply; the rest costs at most "
        "%.4f USD by the price given",
        *(judge.name, len(questions), len(questions) - len(uncached), usd),
    )
