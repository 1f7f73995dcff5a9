"""Card of a prepared data set: Markdown with the YAML head of the Hugging Face Hub.

The head's keys are those of https://huggingface.co/docs/hub/datasets-cards.
"""

from __future__ import annotations

from typing import Any

import yaml

from preparation.report.page import value

_FACT_ROWS = 10
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip


def render_card(report: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    head = yaml.safe_dump(_head(report), sort_keys=False, allow_unicode=True)
    lines = [f"---\n{head}---\n", f"# {report['name']}\n"]
    lines.append(
        f"{report['rows_written']:,} rows, prepared from {report['rows_read']:,} rows of "
        f"{len(report['sources'])} sources by [Temper](recipe.yaml). Content digest: "
        f"`{report['content_digest'][:16]}`.\n"
    )
    lines += ["## Sources\n", "| source | rows read | rows written | licence or terms | origin |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {s['label']} | {s['rows']:,} | {s['written']:,} | {s['license'] or 'not stated'} "
        f"| {s['origin'] or 'not stated'} |"
        for s in report["sources"]
    ]
    lines += ["", "## Steps\n", "| step | changed | rejected | would be rejected | findings |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {step['step']} | {step['changed'] or ''} | {_counts(step['rejected'])} "
        f"| {_counts(step['would_reject'])} | {_counts(step['findings'])} |"
        for step in report["steps"]
    ]
    for step in report["steps"]:
        for table in step["facts"]:
            lines += ["", *_table(table)]
    lines += ["", "## Splits\n", "| split | rows |", "|---|---|"]
    lines += [f"| {split} | {rows:,} |" for split, rows in report["splits"].items()]
    notes = [*report["warnings"], *report["notices"]]
    lines += ["", *(f"- {note}." for note in notes)] if notes else []
    lines += ["", "Counts by source and language, with examples: [report](report.html).", ""]
    return "\n".join(lines)


def _table(table: dict[str, Any]) -> list[str]:
    """Return a table of facts; the report has the rows that are left out."""
    rows = table["rows"]
    more = f" (first {_FACT_ROWS} of {len(rows)})" if len(rows) > _FACT_ROWS else ""
    lines = [f"## {table['title']}{more}\n", f"| {' | '.join(table['columns'])} |"]
    lines.append("|---" * len(table["columns"]) + "|")
    return lines + [f"| {' | '.join(map(value, row))} |" for row in rows[:_FACT_ROWS]]


def _head(report: dict[str, Any]) -> dict[str, Any]:
    languages = [
        tag.removeprefix("language: ") for tag in report["tags"] if tag.startswith("language: ")
    ]
    size = next((name for most, name in _SIZES if report["rows_written"] < most), "n>1B")
    head: dict[str, Any] = {"pretty_name": report["name"], "size_categories": [size]}
    known = [code for code in languages if code not in ("unknown", "und")]
    if known:
        head["language"] = known
    head["license"] = _license({s["license"] for s in report["sources"]})
    head["configs"] = [
        {
            "config_name": "default",
            "data_files": [
                {"split": split, "path": f"{split}/*.parquet"} for split in report["splits"]
            ],
        }
    ]
    return head


def _license(licenses: set[str | None]) -> str:
    """Return the Hub's `license` of data whose sources have these licences, None if not stated."""
    return "other" if len(licenses) > 1 else next(iter(licenses), None) or "unknown"


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)
