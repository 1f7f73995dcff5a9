"""Share of each group's rows that each rule drops, next to that of the other groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from safety.binomial import Proportion, fisher_greater, holm

ANY_REASON = "any reason"
_LEVEL = 0.05
_MIN_RATIO = 1.2
"""Least ratio to the other groups' share: among many rows a difference without weight is
significant too."""
_SHOWN = 12
_MIN_ROWS = 10
"""Groups of a rule on the page, and the rows of one; report.json has all groups."""
NameOf: TypeAlias = Callable[[str, str], str]


@dataclass(frozen=True)
class GroupShare:
    """Share of the rows of a group that a rule drops, or would.

    Attributes:
        column: Column that divides the rows.
        step: Step of the rule.
        reason: Its reason, or any reason of a step with several.
        group: Value of the column.
        own: Rows of the group that the step examined, and those that it drops.
        rest: The same of all other groups.
        examples: Examples of its rows that are dropped: id and text.
        p: p-value of Fisher's exact test that the group loses more than the rest, by Holm adjusted
            for all groups and rules of the report.
    """

    column: str
    step: str
    reason: str
    group: str
    own: Proportion
    rest: Proportion
    examples: Sequence[Mapping[str, str]] = ()
    p: float = 1.0

    @property
    def warned(self) -> bool:
        """True if the group loses significantly more than the rest."""
        return self.p < _LEVEL and self.own.value >= _MIN_RATIO * self.rest.value

    def document(self) -> dict[str, Any]:
        """Return the share for the report."""
        low, high = self.own.interval
        return {
            "column": self.column,
            "step": self.step,
            "reason": self.reason,
            "group": self.group,
            "rows": self.own.of,
            "dropped": self.own.count,
            "share": round(self.own.value, 6),
            "interval": [round(low, 6), round(high, 6)],
            "rest_share": round(self.rest.value, 6) if self.rest.of else None,
            "p_holm": float(f"{self.p:.3g}"),
            "warned": self.warned,
            "examples": list(self.examples) if self.warned else [],
        }


def group_shares(
    counts: Mapping[str, Mapping[str, Mapping[str, Any]]],
    name_of: NameOf = lambda column, name: name,
) -> list[GroupShare]:
    """Return the share of each group and rule that drops any row, with adjusted p-values.

    Args:
        counts: Counts of `ReportGroups`, of all units, by step, column and group.
        name_of: Returns the name of a group of a column as the report may show it.
    """
    shares = list(_shares(counts, name_of))
    adjusted = holm([fisher_greater(share.own, share.rest) for share in shares])
    return [replace(share, p=p) for share, p in zip(shares, adjusted, strict=True)]


def _shares(
    counts: Mapping[str, Mapping[str, Mapping[str, Any]]], name_of: NameOf
) -> Iterator[GroupShare]:
    for step, columns in counts.items():
        for column, groups in columns.items():
            rows = {name: counted["rows"] for name, counted in groups.items()}
            total = sum(rows.values())
            ordered = sorted(rows, key=lambda name: (-rows[name], name))
            for reason, dropped in _rules(groups):
                all_dropped = sum(dropped.values())
                for name in ordered if len(rows) > 1 else ():
                    own = Proportion(dropped.get(name, 0), rows[name])
                    rest = Proportion(all_dropped - own.count, total - own.of)
                    examples = groups[name]["examples"].get(reason, ())
                    shown = name_of(column, name)
                    yield GroupShare(column, step, reason, shown, own, rest, examples)


def _rules(groups: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the rows that each reason drops, by group; of several reasons also any of them."""
    by_reason: dict[str, dict[str, int]] = {}
    for name, counted in groups.items():
        for reason, count in counted["reasons"].items():
            by_reason.setdefault(reason, {})[name] = count
    if len(by_reason) > 1:
        yield ANY_REASON, {name: counted["dropped"] for name, counted in groups.items()}
    yield from sorted(by_reason.items(), key=lambda item: (-sum(item[1].values()), item[0]))


def warnings(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each group that loses significantly more than the rest.

    Args:
        documents: Shares of a report, as `GroupShare.document` returns them.
    """
    return [_warning(share) for share in documents if share["warned"]]


def _warning(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    verb = "would reject" if share["action"] == "report" else "rejects"
    return (
        f"{share['column']} {share['group']}: {share['step']} "
        f"({share['reason'].replace('_', ' ')}) {verb} {share['share']:.1%} of its "
        f"{share['rows']:,} rows (95 % interval {low:.1%} to {high:.1%}), and "
        f"{share['rest_share']:.1%} of the others"
    )


def tables(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the shares by column and rule, with the largest groups and all that are warned of.

    Args:
        documents: Shares of a report, as `GroupShare.document` returns them.
    """
    columns: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = {}
    for share in documents:
        rules = columns.setdefault(share["column"], {})
        rules.setdefault((share["step"], share["reason"]), []).append(share)
    return [
        {"column": column, "rules": [_rule_table(*rule, rules[rule]) for rule in rules]}
        for column, rules in columns.items()
    ]


def _rule_table(step: str, reason: str, shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shown = [
        share
        for number, share in enumerate(shares)
        if share["warned"] or number < 2 or (number < _SHOWN and share["rows"] >= _MIN_ROWS)
    ]
    return {
        "step": step,
        "reason": reason,
        "groups": shown,
        "left_out": len(shares) - len(shown),
        "scale": max(share["interval"][1] for share in shown),
        "warned": any(share["warned"] for share in shares),
    }
