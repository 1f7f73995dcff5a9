"""Score by judges: rating of each answer, or comparison with the other model's answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.config.scores import LlmJudge
from evaluation.judging.biases import (
    first_preferred,
    flips,
    length_controlled_win_rate,
    longer_preferred,
    word_gap,
)
from evaluation.judging.judges import NamedJudge, announce_cost, build_judges, same_family
from evaluation.judging.pairwise import AnswerPair, OrderedVerdicts, judge_pairs, pair_questions
from evaluation.judging.panel import majority, mean_kappa
from evaluation.judging.prediction_powered import prediction_powered_mean
from evaluation.judging.rating import JudgeRating, RatedAnswer, rate_answers, rating_questions
from evaluation.metric import mean_metric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from training.errors import DataError, RunError
from training.judges.base import JudgeContext

logger = logging.getLogger(__name__)

_WINS = {"model": 1.0, "other": 0.0, "tie": 0.5, None: float("nan")}
_UNJUDGED = "no usable judgement"
_NO_OTHER = "the other model has no answer"


class LlmJudgeScore:
    """Judgement of answers by one judge or a panel.

    Args:
        section: Section of the score.
        context: Cache, cost limit and the other model's answers.

    Raises:
        RunError: The answers are to be compared, and there is no other model.
    """

    def __init__(self, section: LlmJudge, context: ScoreContext):
        if section.compares and context.other_answers is None:
            raise RunError(
                "a pairwise judge compares the answers with those of another model: name it with "
                "--against (AGAINST=…), or set mode: single"
            )
        self._section = section
        self._context = context
        judge_context = JudgeContext(
            device=context.device,
            folder=context.folder,
            cache=context.cache,
            max_cost_usd=context.max_cost_usd,
            limit_key="--max-cost",
        )
        self._judges = build_judges(section.panel, judge_context, context.model)

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `judge_rating` (mode single) or `win_rate` (mode pairwise).

        Raises:
            DataError: The other model has an answer to none of the items.
            RunError: A judge cannot be reached, the cost limit is reached, or too many replies
                cannot be used.
        """
        return self._compare(items) if self._section.compares else self._rate(items)

    def _rate(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        section = self._section
        answers = [
            RatedAnswer(item.prompt, answer, self._reference(item))
            for item in items
            for answer in item.answers
        ]
        owners = [number for number, item in enumerate(items) for _ in item.answers]
        questions = rating_questions(answers, section.rubric, section.scale)
        ratings: list[list[JudgeRating]] = []
        for judge in self._judges:
            announce_cost(judge, questions)
            ratings.append(
                rate_answers(
                    judge.judge,
                    answers,
                    section.rubric,
                    scale=section.scale,
                    retries=judge.retries,
                    usage=judge.usage,
                )
            )
        by_item: list[list[float]] = [[] for _ in items]
        details: list[dict[str, Any]] = [{"ratings": []} for _ in items]
        for judge, given in zip(self._judges, ratings, strict=True):
            for owner, rating in zip(owners, given, strict=True):
                details[owner]["ratings"].append({"judge": judge.name, **asdict(rating)})
                if rating.rating is not None:
                    by_item[owner].append(float(rating.rating))
        values = [float(np.mean(given)) if given else float("nan") for given in by_item]
        kappa = mean_kappa([[one.rating for one in given] for given in ratings], ordinal=True)
        return self._outcome("judge_rating", values, details, {"kappa": kappa})

    def _compare(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        section = self._section
        others = self._context.other_answers or {}
        rows = [number for number, item in enumerate(items) if others.get(item.id)]
        if not rows:
            raise DataError("the other model has an answer to none of the items")
        pairs = [
            AnswerPair(
                items[number].prompt,
                items[number].answers[0],
                others[items[number].id][0],
                self._reference(items[number]),
            )
            for number in rows
        ]
        questions = pair_questions(pairs, section.rubric)
        verdicts: list[list[OrderedVerdicts]] = []
        for judge in self._judges:
            announce_cost(judge, questions)
            verdicts.append(
                judge_pairs(
                    judge.judge, pairs, section.rubric, retries=judge.retries, usage=judge.usage
                )
            )
        preferences = [
            majority([v.preference for v in item]) for item in zip(*verdicts, strict=True)
        ]
        wins = [_WINS[preference] for preference in preferences]
        details = [
            {
                "other_answer": pair.other,
                "preference": preference,
                "verdicts": [
                    {"judge": judge.name, **asdict(verdict)}
                    for judge, verdict in zip(self._judges, given, strict=True)
                ],
            }
            for pair, preference, given in zip(
                pairs, preferences, zip(*verdicts, strict=True), strict=True
            )
        ]
        facts = self._pair_facts(pairs, wins, verdicts)
        return _spread(self._outcome("win_rate", wins, details, facts), rows, len(items))

    def _reference(self, item: AnsweredItem) -> str:
        return item.targets[0] if self._section.show_target and item.targets else ""

    def _pair_facts(
        self,
        pairs: Sequence[AnswerPair],
        wins: Sequence[float],
        verdicts: Sequence[Sequence[OrderedVerdicts]],
    ) -> dict[str, Any]:
        gaps = [word_gap(pair.model, pair.other) for pair in pairs]
        every = [verdict for given in verdicts for verdict in given]
        controlled = length_controlled_win_rate(wins, gaps)
        facts: dict[str, Any] = {
            "flips": flips(every).document(),
            "first_preferred": first_preferred(every).document(),
            "longer_preferred": longer_preferred(wins, gaps).document(),
            "length_controlled_win_rate": None if controlled is None else asdict(controlled),
            "kappa": mean_kappa(
                [[None if v.preference is None else _WINS[v.preference] for v in given]
                 for given in verdicts],
                ordinal=False,
            ),
        }  # fmt: skip
        if self._section.human_labels is not None:
            facts["human"] = human_facts(Path(self._section.human_labels), pairs, wins)
        return facts

    def _outcome(
        self,
        name: str,
        values: Sequence[float],
        details: Sequence[dict[str, Any]],
        facts: dict[str, Any],
    ) -> ScoreOutcome:
        unjudged = {n: _UNJUDGED for n, value in enumerate(values) if np.isnan(value)}
        self._check_unjudged(len(unjudged), len(values))
        facts = {
            "judges": [_judge_facts(judge, self._context.model) for judge in self._judges],
            "unjudged": len(unjudged),
            # The account is one of all judges; that of endpoints is apart.
            "usd": max(judge.spent_usd for judge in self._judges),
            **facts,
        }
        metric = mean_metric(metric_name(self._section, name), np.asarray(values, np.float64))
        return ScoreOutcome((metric,), tuple(details), unjudged, facts)

    def _check_unjudged(self, unjudged: int, items: int) -> None:
        limit = self._section.max_unjudged
        if unjudged > limit * items:
            raise RunError(
                f"{unjudged} of {items} items ({unjudged / items:.0%}) have no usable judgement, "
                f"which is more than max_unjudged ({limit:.0%}). Judge with a more capable model, "
                f"or raise max_new_tokens of the judge if its replies are cut before the verdict"
            )


def _spread(outcome: ScoreOutcome, rows: Sequence[int], items: int) -> ScoreOutcome:
    """Return an outcome of the items with two answers as one of all items.

    Args:
        outcome: Outcome of the items with two answers.
        rows: Their numbers.
        items: Number of all items.
    """
    if len(rows) == items:
        return outcome
    values = np.full(items, np.nan)
    values[list(rows)] = outcome.metrics[0].item_values
    details: list[dict[str, Any]] = [{} for _ in range(items)]
    for row, detail in zip(rows, outcome.details, strict=True):
        details[row] = detail
    unscored = dict.fromkeys(set(range(items)) - set(rows), _NO_OTHER)
    unscored |= {rows[number]: reason for number, reason in outcome.unscored.items()}
    metric = mean_metric(outcome.metrics[0].name, values)
    return ScoreOutcome((metric,), tuple(details), unscored, outcome.facts)


def human_facts(path: Path, pairs: Sequence[AnswerPair], wins: Sequence[float]) -> dict[str, Any]:
    """Return the agreement with human labels and the win rate that they correct.

    Args:
        path: File of human labels.
        pairs: The judged pairs.
        wins: Win of the model on each pair by the judges.

    Raises:
        DataError: The file cannot be read, or labels none of the pairs.
    """
    from evaluation.judging.human_labels import human_wins

    humans = human_wins(path, pairs)
    both = [
        (win, human)
        for win, human in zip(wins, humans, strict=True)
        if not np.isnan(win) and not np.isnan(human)
    ]
    corrected = prediction_powered_mean(wins, humans)
    kappa = mean_kappa([[win for win, _ in both], [human for _, human in both]], ordinal=False)
    return {
        "labelled": len(both),
        "agreement": sum(win == human for win, human in both) / len(both) if both else None,
        "kappa": kappa,
        "corrected_win_rate": None if corrected is None else asdict(corrected),
    }


def _judge_facts(judge: NamedJudge, model: str) -> dict[str, Any]:
    return {
        "name": judge.name,
        "same_family": same_family(judge.name, model),
        **asdict(judge.usage),
    }
