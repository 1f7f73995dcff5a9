"""Filter of drafts by a judge's rating."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preparation.synthesis.drafts import Collection, Draft, as_question
from preparation.synthesis.section import JudgeFilter
from training.data.schema.rows import Message
from training.judges.base import Judge, JudgeUsage, ask

_QUESTION = """You judge training data for an assistant. {criteria}
{context}
Question:
{prompt}

Answer:
{answer}

Rate them from 1 (worst) to {scale} (best). Reply with the number alone."""
_CONTEXT = """
The answer must be supported by this passage:
{passage}
"""
_REMINDER = "Reply with a whole number from 1 to {scale}, and with nothing else."
_NUMBER = re.compile(r"(?<![\d.])(\d+)(?![\d]|\.\d)")


class RatingFilter:
    """Filter that keeps the drafts which a judge rates high enough.

    Args:
        section: Settings of the filter.
        judge: The judge.

    Attributes:
        ratings: Ratings so far, of accepted and rejected drafts.
        usage: Counts of the judge's replies.
    """

    def __init__(self, section: JudgeFilter, judge: Judge):
        self._section = section
        self._judge = judge
        self.ratings: list[int] = []
        self.usage = JudgeUsage()

    def accepted(self, drafts: Sequence[Draft], collected: Collection) -> list[Draft]:
        """Return the drafts that reach the threshold, with the tag `judge_rating`.

        Raises:
            RunError: The judge cannot be reached, or the cost limit is reached.
        """
        section = self._section
        ratings = ask(
            self._judge,
            [self.question(draft) for draft in drafts],
            self._parsed,
            reminder=_REMINDER.format(scale=section.scale),
            retries=section.judge.retries,
            usage=self.usage,
        )
        accepted = []
        for draft, rating in zip(drafts, ratings, strict=True):
            if rating is None:
                collected.reject("no_rating")
                continue
            self.ratings.append(rating)
            if rating < section.threshold:
                collected.reject("low_rating")
            else:
                accepted.append(draft.tagged({"judge_rating": rating}))
        return accepted

    def question(self, draft: Draft) -> list[Message]:
        """Return the question that asks for the rating of a draft."""
        section = self._section
        context = _CONTEXT.format(passage=draft.context) if draft.context else ""
        return as_question(
            _QUESTION.format(
                criteria=section.criteria,
                context=context,
                prompt=draft.prompt,
                answer=draft.answer,
                scale=section.scale,
            )
        )

    def _parsed(self, reply: str) -> int | None:
        """Return the rating in a reply; None if it has none within the scale."""
        match = _NUMBER.search(reply)
        rating = int(match[1]) if match else 0
        return rating if 1 <= rating <= self._section.scale else None
