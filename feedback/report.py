"""Report of the analysis: an HTML page, JSON, console lines, and the training set."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feedback.analysis import FeedbackAnalysis
from safety.binomial import Proportion
from training.errors import DataError
from training.page_environment import page_environment

_KAPPA_LABELS = (
    (0.0, "no better than chance"),
    (0.2, "slight"),
    (0.4, "fair"),
    (0.6, "moderate"),
    (0.8, "substantial"),
)
"""Labels by upper limit (Landis and Koch 1977, doi:10.2307/2529310)."""


def write_report(analysis: FeedbackAnalysis, folder: Path) -> None:
    """Write `report.html`, `report.json`, `pairs.jsonl` and `dropped.jsonl`.

    Raises:
        DataError: The folder cannot be written.
    """
    cleaned = analysis.cleaned
    files = {
        "pairs.jsonl": _lines(cleaned.rows),
        "dropped.jsonl": _lines(cleaned.dropped),
        "report.json": json.dumps(_document(analysis), indent=1, ensure_ascii=False) + "\n",
        "report.html": render(analysis),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            building = folder / f".{name}.writing"
            building.write_text(text, encoding="utf-8")
            building.replace(folder / name)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None


def console_lines(analysis: FeedbackAnalysis) -> list[str]:
    """Return the analysis in a few lines for the terminal."""
    agreement, cleaned = analysis.agreement, analysis.cleaned
    reasons = Counter(row["what"] + ": " + row["why"] for row in cleaned.dropped)
    return [
        f"{analysis.labels:,} labels of {analysis.pairs:,} pairs by {analysis.annotator_count}",
        f"agreement on {agreement.pairs:,} pairs judged twice or more: Krippendorff's alpha "
        f"{kappa(agreement.alpha)}, Fleiss' kappa {kappa(agreement.fleiss)}, Cohen's kappa "
        f"{kappa(agreement.cohen)}",
        *(
            [f"without flagged annotators: alpha {kappa(analysis.reliable_agreement.alpha)}"]
            if any(annotator.flags for annotator in analysis.annotators)
            else []
        ),
        f"the answer shown first is chosen {share(analysis.first)}, the longer one "
        f"{share(analysis.longer)}",
        *(f"warning: {warning}" for warning in analysis.warnings),
        f"{len(cleaned.rows):,} pairs to train on; dropped:{'' if reasons else ' nothing'}",
        *(f"  {count:,} × {why}" for why, count in reasons.most_common()),
    ]


def render(analysis: FeedbackAnalysis) -> str:
    """Return the HTML page."""
    environment = page_environment(
        Path(__file__).parent, kappa=kappa, share=share, kappa_label=kappa_label
    )
    reasons = Counter((row["what"], row["why"]) for row in analysis.cleaned.dropped)
    page = environment.get_template("page.html.jinja")
    return page.render(analysis=analysis, reasons=reasons.most_common())


def kappa(value: float | None) -> str:
    """Return a measure of agreement as text."""
    return "not available" if value is None else f"{value:.2f}"


def kappa_label(value: float | None) -> str:
    """Return the verbal label of a measure of agreement."""
    if value is None:
        return "too few pairs were judged twice"
    return next((label for limit, label in _KAPPA_LABELS if value <= limit), "almost perfect")


def share(value: Proportion) -> str:
    """Return a proportion with its interval as text."""
    if not value.of:
        return "not available"
    low, high = value.interval
    return f"{value.value:.0%} ({low:.0%} to {high:.0%}, of {value.of:,})"


def _document(analysis: FeedbackAnalysis) -> dict[str, Any]:
    cleaned = analysis.cleaned
    return {
        "labels": analysis.labels,
        "pairs": analysis.pairs,
        "prompts": analysis.prompts,
        "agreement": asdict(analysis.agreement),
        "agreement_in_line": asdict(analysis.reliable_agreement),
        "annotators": [
            {
                "name": one.name,
                "labels": one.labels,
                "ties": one.ties,
                "with_majority": one.with_majority.document(),
                "with_self": one.with_self.document(),
                "first_shown": one.first.document(),
                "calibration": one.gold.document(),
                "weight": round(one.weight, 4),
                "out_of_line": one.flags,
            }
            for one in analysis.annotators
        ],
        "longer_chosen": analysis.longer.document(),
        "first_chosen": analysis.first.document(),
        "topics": analysis.topics,
        "groups": analysis.groups,
        "contradictions": cleaned.contradictions,
        "cycles": cleaned.cycles,
        "duplicates": cleaned.duplicates,
        "kept": len(cleaned.rows),
        "dropped": len(cleaned.dropped),
        "dropped_by_rule": dict(cleaned.dropped_by_rule),
        "warnings": analysis.warnings,
    }


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
