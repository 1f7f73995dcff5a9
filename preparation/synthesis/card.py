"""Facts of a synthesis, and the card that states what wrote the data."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from preparation.synthesis.drafts import Collection
from preparation.synthesis.journal import RequestJournal
from preparation.synthesis.models import model_name
from preparation.synthesis.rating import RatingFilter
from preparation.synthesis.section import SynthesisSection

_NO_TERMS = (
    "not stated. Find out whether the terms of the teacher allow training on its text, and set "
    "synthesize.teacher_terms"
)
_PAPERS = {
    "self_instruct": "Self-Instruct (https://arxiv.org/abs/2212.10560)",
    "evolve": "Evol-Instruct (https://arxiv.org/abs/2304.12244)",
}


def facts(
    section: SynthesisSection,
    collected: Collection,
    rating: RatingFilter | None,
    journal: RequestJournal,
    spent: dict[str, Any],
) -> dict[str, Any]:
    """Return the facts of a synthesis.

    Args:
        section: Section of the job.
        collected: Accepted drafts and the reasons of rejected ones.
        rating: The judge's filter, if there is one.
        journal: Journal of all requests.
        spent: Calls, tokens and USD of this synthesis.
    """
    settings = section.model_dump(mode="json", exclude_none=True)
    known: dict[str, Any] = {
        "kind": settings["kind"],
        "teacher": model_name(section.teacher),
        "teacher_terms": section.teacher_terms,
        "settings": settings,
        "requests": len(journal),
        "requests_digest": journal.digest(),
        "rows": len(collected.drafts),
        "rejected": dict(collected.rejected.most_common()),
        "spent": spent,
    }
    if rating is not None and section.filter is not None:
        counts = Counter(rating.ratings)
        known["judge"] = model_name(section.filter.judge)
        known["ratings"] = {str(score): counts[score] for score in sorted(counts)}
        known["judge_replies"] = rating.usage.to_json()
    return known


def card(known: dict[str, Any]) -> str:
    """Return the card of the data, in Markdown with the Hub's metadata."""
    lines = [
        "---",
        "tags:",
        "- synthetic",
        "---",
        "",
        "# Synthetic data",
        "",
        f"All {known['rows']:,} rows were written by the model `{known['teacher']}`.",
        "",
        f"- Method: {_PAPERS.get(known['kind'], known['kind'].replace('_', ' '))}",
        f"- Licence or terms of use of the teacher: {known['teacher_terms'] or _NO_TERMS}",
        f"- Requests: {known['requests']:,}, digest `{known['requests_digest'][:16]}`",
    ]
    if known["spent"]:
        lines.append(f"- Cost: {known['spent']['usd']:.4f} USD")
    if known["rejected"]:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in known["rejected"].items())
        lines.append(f"- Rejected drafts: {reasons}")
    if "judge" in known:
        ratings = ", ".join(f"{score}: {n:,}" for score, n in known["ratings"].items())
        lines.append(f"- Ratings by `{known['judge']}`: {ratings}")
    settings = json.dumps(known["settings"], indent=1, ensure_ascii=False)
    return "\n".join([*lines, "", "## Settings", "", "```json", settings, "```", ""])
