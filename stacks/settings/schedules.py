"""Schedule expressions of EventBridge Scheduler.

docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

import re
from dataclasses import dataclass

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class CronField:
    """Field of a cron expression.

    Attributes:
        name: Name of the field.
        low: Smallest value.
        high: Largest value.
        names: Names of the values, from the smallest on.
        special: Pattern of values that only this field allows.
    """

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    special: str = r"(?!)"

    def value(self, text: str) -> int | None:
        """Return the number that the text stands for, or None if the field does not allow it."""
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.low
        number = int(text) if re.fullmatch(r"[0-9]+", text) else None
        return number if number is not None and self.low <= number <= self.high else None

    def allows(self, item: str) -> bool:
        """Return whether the field allows one item of its comma-separated list."""
        if re.fullmatch(self.special, item, re.IGNORECASE):
            return True
        values, slash, step = item.partition("/")
        if slash and not (step.isdecimal() and int(step) > 0):
            return False
        if values == "*":
            return True
        first, dash, last = values.partition("-")
        start, end = self.value(first), self.value(last) if dash else None
        return start is not None and (not dash or (end is not None and start <= end))


FIELDS = (
    CronField("minutes", 0, 59),
    CronField("hours", 0, 23),
    CronField("day of month", 1, 31, special=r"\?|L|LW|([1-9]|[12][0-9]|3[01])W"),
    CronField("month", 1, 12, MONTHS),
    CronField(
        "day of week",
        1,
        7,
        WEEKDAYS,
        special=r"\?|L|([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"
        r"(L|#[1-5])",
    ),
    CronField("year", 1970, 2199),
)


def schedule_problem(expression: str) -> str | None:
    """Return what is wrong with a `cron(…)` or `rate(…)` expression, with the fix, or None."""
    kind, _, rest = expression.partition("(")
    content = rest.removesuffix(")")
    if kind == "rate":
        number = content.split()[0]
        return "a rate must be positive; write rate(1 hour)" if int(number) == 0 else None
    parts = content.split()
    if len(parts) != len(FIELDS):
        return (
            f"a cron expression has {len(FIELDS)} fields (minutes, hours, day of month, month, day "
            f"of week, year), not {len(parts)}; write for example cron(0 19 * * ? *)"
        )
    for field, part in zip(FIELDS, parts, strict=True):
        for item in part.split(","):
            if not field.allows(item):
                return (
                    f"{item!r} is not a value of the field {field.name} ({field.low} to "
                    f"{field.high}); write for example cron(0 19 * * ? *)"
                )
    if (parts[2] == "?") == (parts[4] == "?"):
        return "exactly one of day of month and day of week must be ?; write cron(0 19 * * ? *)"
    return None
