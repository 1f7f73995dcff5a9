"""The part of CloudWatch metric math that the alarms use, for one datapoint.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "Average": lambda values: sum(values) / len(values),
    "SampleCount": len,
    # The value below which 95 % of the samples lie.
    "p95": lambda values: sorted(values)[max(0, math.ceil(0.95 * len(values)) - 1)],
}


def statistic_of(values: Sequence[float], statistic: str) -> float | None:
    """Return a statistic over the samples of one period; None, missing, if there is no sample."""
    return STATISTICS[statistic](values) if values else None


def evaluate_expression(expression: str, values: Mapping[str, float | None]) -> float | None:
    """Return the value of an expression; None if it has none for this datapoint.

    Args:
        expression: Sums, differences, products and quotients of metrics, numbers, `FILL` and `IF`.
        values: Values of the metrics by id, None where missing.

    Raises:
        NotImplementedError: If the expression has a function or an operator that is not modelled.
    """
    return _value(ast.parse(expression, mode="eval").body, values)


def _value(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.Call(func=ast.Name(id="FILL"), args=[metric, filler]):
            value = _value(metric, values)
            return _value(filler, values) if value is None else value
        case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
            holds = _holds(condition, values)
            return None if holds is None else _value(then if holds else otherwise, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            first, second = _value(left, values), _value(right, values)
            # An operator has a result only where all its operands have one.
            return None if first is None or second is None else OPERATORS[type(op)](first, second)
    raise NotImplementedError(f"metric math: {ast.unparse(node)} is not modelled")


def _holds(node: ast.expr, values: Mapping[str, float | None]) -> bool | None:
    match node:
        case ast.Compare(left=left, ops=[ast.GtE()], comparators=[right]):
            first, second = _value(left, values), _value(right, values)
            return None if first is None or second is None else first >= second
    raise NotImplementedError(f"metric math: {ast.unparse(node)} is not modelled")
