"""The findings as a page for people, as JSON for programs, and as rows to learn from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from feedback.analysis import FeedbackAnalysis
from feedback.binomial import Proportion
from training.errors import DataError

_WORDS = (
    (0.0, "no better than chance"),
    (0.2, "slight"),
    (0.4, "fair"),
    (0.6, "moderate"),
    (0.8, "substantial"),
)
"""After Landis and Koch 1977, doi:10.2307/2529310."""


def write(findings: FeedbackAnalysis, folder: Path) -> None:
    """Write `report.html`, `report.json`, `pairs.jsonl` and `dropped.jsonl`.

    Raises:
        DataError: The folder cannot be written.
    """
    cleaned = findings.cleaned
    files = {
        "pairs.jsonl": _lines(cleaned.rows),
        "dropped.jsonl": _lines(cleaned.dropped),
        "report.json": json.dumps(_document(findings), indent=1, ensure_ascii=False) + "\n",
        "report.html": render(findings),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            building = folder / f".{name}.writing"
            building.write_text(text, encoding="utf-8")
            building.replace(folder / name)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None


def in_lines(findings: FeedbackAnalysis) -> list[str]:
    """Return the findings in a few lines for a terminal."""
    found, cleaned = findings.agreement, findings.cleaned
    reasons = Counter(row["what"] + ": " + row["why"] for row in cleaned.dropped)
    return [
        f"{findings.labels:,} labels of {findings.pairs:,} pairs by {findings.named}",
        f"agreement on {found.pairs:,} pairs judged twice or more: Krippendorff's alpha "
        f"{kappa(found.alpha)}, Fleiss' kappa {kappa(found.fleiss)}, Cohen's kappa "
        f"{kappa(found.cohen)}",
        *(
            [f"of those who are not out of line: alpha {kappa(findings.in_line.alpha)}"]
            if any(one.out_of_line for one in findings.people)
            else []
        ),
        f"the answer shown first is chosen {share(findings.first)}, the longer one "
        f"{share(findings.longer)}",
        *(f"worth a look: {warning}" for warning in findings.warnings),
        f"{len(cleaned.rows):,} pairs to learn from; left out:{'' if reasons else ' nothing'}",
        *(f"  {count:,} × {why}" for why, count in reasons.most_common()),
    ]


def render(findings: FeedbackAnalysis) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(kappa=kappa, share=share, words=in_words)
    reasons = Counter((row["what"], row["why"]) for row in findings.cleaned.dropped)
    page = environment.get_template("page.html.jinja")
    return page.render(found=findings, reasons=reasons.most_common())


def kappa(value: float | None) -> str:
    """Return a measure of agreement as text."""
    return "not known" if value is None else f"{value:.2f}"


def in_words(value: float | None) -> str:
    """Return what a measure of agreement is called."""
    if value is None:
        return "too little was judged twice"
    return next((words for limit, words in _WORDS if value <= limit), "almost perfect")


def share(value: Proportion) -> str:
    """Return a share with its interval as text."""
    if not value.of:
        return "not known"
    low, high = value.interval
    return f"{value.value:.0%} ({low:.0%} to {high:.0%}, of {value.of:,})"


def _document(findings: FeedbackAnalysis) -> dict[str, Any]:
    cleaned = findings.cleaned
    return {
        "labels": findings.labels,
        "pairs": findings.pairs,
        "prompts": findings.prompts,
        "agreement": asdict(findings.agreement),
        "agreement_in_line": asdict(findings.in_line),
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
                "out_of_line": one.out_of_line,
            }
            for one in findings.people
        ],
        "longer_chosen": findings.longer.document(),
        "first_chosen": findings.first.document(),
        "topics": findings.topics,
        "groups": findings.groups,
        "contradictions": cleaned.contradictions,
        "cycles": cleaned.cycles,
        "duplicates": cleaned.duplicates,
        "kept": len(cleaned.rows),
        "dropped": len(cleaned.dropped),
        "warnings": findings.warnings,
    }


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
