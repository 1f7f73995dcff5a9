"""Rankings of several answers by annotators: read, compared, and combined into training rows."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from feedback.labels import normalize
from feedback.ordinal import kendall_tau, ordinal_alpha, spearman_rho
from feedback.readers import read_records
from training.errors import DataError

_ANSWERS = ("answers", "responses", "completions", "candidates")
_RANKS = ("ranks", "ranking", "rank")
_MAX_SHOWN = 8
"""Maximum number of problems in one message."""


@dataclass(frozen=True)
class Ranking:
    """One annotator's ranking of the answers to one prompt.

    Attributes:
        prompt: The prompt as in the file.
        answers: The answers as in the file, in an order that all rankings of them share.
        annotator: Name of the annotator, or the origin of a ranking without one.
        ranks: Ranks by dimension; 1 is the best. The dimension of a plain list is `overall`.
    """

    prompt: Any
    answers: tuple[Any, ...]
    annotator: str
    ranks: Mapping[str, tuple[float, ...]]

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the prompt and its answers."""
        return (_text(self.prompt), *map(_text, self.answers))


@dataclass(frozen=True)
class DimensionAgreement:
    """Agreement on one dimension; None if no answers were ranked by two annotators.

    Attributes:
        rankings: Number of rankings.
        compared: Number of pairs of rankings of the same answers by two annotators.
        kendall: Mean Kendall's tau-b of them (Kendall 1945).
        spearman: Mean Spearman's rho of them.
        alpha: Krippendorff's alpha for ordinal data.
    """

    rankings: int
    compared: int
    kendall: float | None
    spearman: float | None
    alpha: float | None


def holds_rankings(files: Sequence[Path]) -> bool:
    """Return whether the first record of the first file ranks answers."""
    try:
        _, record = next(read_records(files[0]), ("", {}))
    except (OSError, UnicodeDecodeError, DataError):
        return False  # the reader of labels says why
    return _column(record, _ANSWERS) is not None and _column(record, _RANKS) is not None


def read_rankings(files: Sequence[Path]) -> list[Ranking]:
    """Return the rankings in files.

    Raises:
        DataError: A file cannot be read, or has invalid rankings; names all of them.
    """
    rankings: list[Ranking] = []
    problems: list[str] = []
    for path in files:
        try:
            for origin, record in read_records(path):
                try:
                    rankings.append(_ranking(origin, record))
                except ValueError as problem:
                    problems.append(f"{origin}: {problem}")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    if problems:
        more = len(problems) - _MAX_SHOWN
        shown = problems[:_MAX_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
        raise DataError("rankings cannot be used:\n  " + "\n  ".join(shown))
    return rankings


def agreement_by_dimension(rankings: Sequence[Ranking]) -> dict[str, DimensionAgreement]:
    """Return the agreement of the annotators on each dimension."""
    return {
        name: _agreement([r for r in rankings if name in r.ranks], name)
        for name in sorted({name for ranking in rankings for name in ranking.ranks})
    }


def training_rows(rankings: Sequence[Ranking]) -> Iterator[dict[str, Any]]:
    """Yield a training row for each prompt and set of answers: ranks by their mean (Borda count).

    Answers with the same mean rank are tied.
    """
    for group in _groups(rankings).values():
        ranks = {}
        for name in sorted({name for ranking in group for name in ranking.ranks}):
            judged = [ranking.ranks[name] for ranking in group if name in ranking.ranks]
            sums = [math.fsum(values) for values in zip(*judged, strict=True)]
            ranks[name] = [1 + sum(other < own for other in sums) for own in sums]
        plain = ranks["overall"] if list(ranks) == ["overall"] else ranks
        yield {"prompt": group[0].prompt, "answers": list(group[0].answers), "ranks": plain}


def analyze_rankings(files: Sequence[Path], folder: Path) -> dict[str, DimensionAgreement]:
    """Write `rankings.jsonl` and `report.json`, and return the agreement by dimension.

    Raises:
        DataError: The files cannot be used, or the folder cannot be written.
    """
    rankings = read_rankings(files)
    agreement = agreement_by_dimension(rankings)
    rows = list(training_rows(rankings))
    report = {
        "rankings": len(rankings),
        "annotators": len({ranking.annotator for ranking in rankings}),
        "rows": len(rows),
        "agreement": {name: asdict(value) for name, value in agreement.items()},
    }
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rankings.jsonl").write_text(lines, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None
    return agreement


def _agreement(rankings: Sequence[Ranking], name: str) -> DimensionAgreement:
    taus, rhos, units = [], [], []
    for group in _groups(rankings).values():
        ranks = list({r.annotator: r.ranks[name] for r in group}.values())
        # The last ranking of an annotator counts, as for labels.
        for one, other in combinations(ranks, 2):
            taus.append(kendall_tau(one, other))
            rhos.append(spearman_rho(one, other))
        units += [list(values) for values in zip(*ranks, strict=True)]
    return DimensionAgreement(
        rankings=len(rankings),
        compared=len(taus),
        kendall=_mean(taus),
        spearman=_mean(rhos),
        alpha=ordinal_alpha(units),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _groups(rankings: Sequence[Ranking]) -> dict[tuple[str, ...], list[Ranking]]:
    groups: defaultdict[tuple[str, ...], list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        groups[ranking.key].append(ranking)
    return dict(groups)


def _ranking(origin: str, record: Mapping[str, Any]) -> Ranking:
    """Return the ranking of a record.

    Raises:
        ValueError: It is incomplete, or the ranks do not fit the answers.
    """
    prompt, answers = record.get("prompt"), _json(_column(record, _ANSWERS))
    if not prompt:
        raise ValueError("no prompt (column prompt)")
    if not isinstance(answers, list) or len(answers) < 2:
        raise ValueError(f"answers is not a list of two or more: {str(answers)[:40]}")
    if len({_text(answer) for answer in answers}) < len(answers):
        raise ValueError("two of the answers are the same. Remove one, with its rank")
    value = _json(_column(record, _RANKS))
    rankings = value if isinstance(value, dict) else {"overall": value}
    rankings = {str(name): ranks for name, ranks in rankings.items() if ranks is not None}
    if not rankings:
        raise ValueError("ranks is empty")
    for name, ranks in rankings.items():
        if not isinstance(ranks, list) or not all(_is_rank(rank) for rank in ranks):
            raise ValueError(f"ranks of {name} is not a list of numbers: {str(ranks)[:40]}")
        if len(ranks) != len(answers):
            raise ValueError(f"{len(ranks)} ranks of {name} for {len(answers)} answers")
    order = sorted(range(len(answers)), key=lambda index: _text(answers[index]))
    return Ranking(
        prompt,
        tuple(answers[index] for index in order),
        str(record.get("annotator") or origin),
        {name: tuple(float(r[index]) for index in order) for name, r in rankings.items()},
    )


def _is_rank(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _column(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _json(value: Any) -> Any:
    """Return a value that a table holds as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: Any) -> str:
    return normalize(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
