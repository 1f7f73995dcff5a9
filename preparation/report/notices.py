"""Notices of a report: what the steps could not examine, and splits without rows."""

from __future__ import annotations

from collections.abc import Mapping

from preparation.config.split import Split

_OF_TAGS = {
    "secret_rules: patterns": "rows were searched for secrets with the patterns of this project "
    "alone (tag secret_rules), because betterleaks cannot be loaded on this machine: fewer kinds "
    "are found",
    "web_rules: not English": "rows were not judged by the rules for web text (tag web_rules), "
    "whose thresholds are those of English",
}


def notices(tags: Mapping[str, int], splits: Mapping[str, int], split: Split) -> list[str]:
    """Return sentences about rows that were not examined, and about splits without rows.

    Args:
        tags: Rows by tag.
        splits: Rows by split.
        split: Section `prepare.split`.
    """
    lines = [f"{tags[tag]:,} {text}" for tag, text in _OF_TAGS.items() if tag in tags]
    for name in ("validation", "test"):
        share = getattr(split, name)
        if share and not splits.get(name):
            lines.append(
                f"split.{name}: {share:.1%} of {sum(splits.values()):,} rows is no row. Related "
                "rows stay on one side; set a greater share or another split.seed"
            )
    return lines
