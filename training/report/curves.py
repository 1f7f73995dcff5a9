"""Curves of the report: inline SVG that follows the colours of the page and is reproducible."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from training.report import rl_summary
from training.report.formatting import number
from training.report.run_data import RunData
from training.step_metrics import LOGGED_METRICS

_MOST_POINTS = 600
# Placeholder colours, replaced by CSS variables so that curves follow dark mode and print.
_PAPER = {
    "#010101": "var(--ink)",
    "#020202": "var(--faint)",
    "#030303": "var(--line)",
    "#040404": "var(--first)",
    "#050505": "var(--second)",
}
_INK, _FAINT, _LINE, _FIRST, _SECOND = _PAPER
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "temper",
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _FAINT,
    "ytick.labelcolor": _FAINT,
    "text.color": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "path.simplify": True,
}
_METHOD_TITLES = {
    "reward": "Reward",
    "kl": "KL from the reference (nats per completion)",
    "kl_coefficient": "KL coefficient",
    "entropy": "Entropy (nats per token)",
    "answer_tokens": "Tokens per completion",
    "ended": "Completions that end with EOS",
    "repetition": "Repeated 4-grams in a completion",
    "explained_variance": "Explained variance of the critic",
    "accuracy": "Accuracy on pairs",
    "auc": "AUC of good over bad answers",
    "margin": "Margin",
    "mean_score": "Mean score",
    "clipped": "Clipped tokens",
    "aux_loss": "Load-balancing loss",
    "expert_entropy": "Evenness of the experts' load (entropy)",
    "expert_max_share": "Share of the busiest expert",
    "expert_busiest_share": "Share of the busiest experts of a token",
    "dead_experts": "Experts without a token",
}
"""Titles of the curves of metrics that methods add, in the order of the page."""
_DECLARED = {metric.key: metric for metric in LOGGED_METRICS}
_TITLES = {**_METHOD_TITLES, **{m.key: m.curve for m in LOGGED_METRICS if m.curve}}
_NO_CURVE = {
    *("experts", "expert_min_share", "answers", "reward_min", "reward_max", "kl_token", "kl_k3"),
    *_DECLARED,
    *_METHOD_TITLES,
}
_MOST_EXTRA = 8
_LARGE, _SMALL = (5.0, 3.0), (4.4, 2.0)
"""Sizes in inches of the first curve of a page and of the others."""
_LEFT = 0.62
"""Left margin in inches. Curves share it, and so stand in line, unless a label is too long."""


@dataclass(frozen=True)
class Curve:
    """Curve on the page.

    Attributes:
        title: Caption.
        svg: The drawing as inline SVG.
        words: Text alternative for screen readers.
        notes: Remarks below the curve, such as steps at which the value was NaN.
    """

    title: str
    svg: str
    words: str
    notes: tuple[str, ...] = field(default=())


def draw_curves(run_data: RunData, prefix: str) -> list[Curve]:
    """Return the curves of a run, the loss first; an empty list if no step was logged.

    Args:
        run_data: The run.
        prefix: Prefix of the ids inside the SVG, unique for each run on the page.
    """
    if not run_data.steps and not run_data.evaluations:
        return []
    names = [n for n in _TITLES if _counts(run_data, n) or _counts(run_data, f"eval_{n}")]
    extra = sorted({key for row in run_data.steps for key in row} - _NO_CURVE)
    names += [name for name in extra if _counts(run_data, name)][:_MOST_EXTRA]
    # A run without a KL penalty may not have computed the KL.
    has_frontier = rl_summary.is_rewarded(run_data) and bool(rl_summary.frontier(run_data)[0])
    curves = [draw_frontier(run_data, f"{prefix}-frontier")] if has_frontier else []
    curves.append(_draw_loss(run_data, f"{prefix}-loss", _SMALL if has_frontier else _LARGE))
    for index, name in enumerate(names):
        title = _TITLES.get(name, name.replace("_", " "))
        held = _held_out(run_data, name)
        lines = [("training" if held[0] else name, *run_data.series(name)), ("held out", *held)]
        shown = [line for line in lines if line[1]]
        curves.append(_draw(shown, title, f"{prefix}-{index}", _SMALL))
    return curves


def _counts(run_data: RunData, name: str) -> bool:
    return any(math.isfinite(value) for value in run_data.series(name)[1])


def _draw_loss(run_data: RunData, prefix: str, size: tuple[float, float]) -> Curve:
    lines = [("training", *run_data.series("loss"))]
    # In reinforcement learning the held-out loss is the negative reward, a different quantity.
    if not rl_summary.is_rewarded(run_data):
        lines.append(("held out", *_held_out(run_data, "loss")))
    return _draw([line for line in lines if line[1]], "Loss", prefix, size)


def _held_out(run_data: RunData, name: str) -> tuple[list[float], list[float]]:
    """Return steps and values of a held-out measure, from before training to after it."""
    steps, values = run_data.series(f"eval_{name}")
    before, after = (_measured(side, name) for side in (run_data.before, run_data.after))
    if before is not None and steps[:1] != [0.0]:
        steps, values = [0.0, *steps], [before, *values]
    last = float(run_data.steps[-1]["step"]) if run_data.steps else 0.0
    if after is not None and last > (steps or [0.0])[-1]:
        steps, values = [*steps, last], [*values, after]
    return steps, values


def draw_frontier(run_data: RunData, prefix: str) -> Curve:
    """Return the reward at each KL divergence from the reference, one point per rollout."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    kl, reward, steps = rl_summary.frontier(run_data)
    with rc_context(_STYLE):
        width, height = _LARGE
        figure = Figure(figsize=_LARGE)
        axes = figure.add_axes((0.78 / width, 0.42 / height, 1 - 0.84 / width, 1 - 0.5 / height))
        axes.plot(kl, reward, color=_FIRST, linewidth=0.8, alpha=0.4)
        few = len(kl) <= _MOST_POINTS
        axes.scatter(kl, reward, s=14 if few else 4, color=_FIRST, linewidths=0)
        for index in {0, len(kl) - 1} if kl else ():
            # Toward the middle of the axes, or a label would leave the figure; above the last
            # point and below the first, away from the curve between them if the reward rises.
            in_right_half = kl[index] > (min(kl) + max(kl)) / 2
            axes.annotate(
                f"step {steps[index]:.0f}",
                (kl[index], reward[index]),
                xytext=(-6 if in_right_half else 6, 5 if index else -11),
                textcoords="offset points",
                ha="right" if in_right_half else "left",
                color=_INK,
            )
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        axes.set_xlabel("KL from the reference (nats per completion)")
        axes.set_ylabel("reward")
        axes.margins(x=0.12, y=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        svg = _to_svg(figure, prefix)
    words = [
        f"{number(reward[i], 2)} at {number(kl[i], 1)} nats (step {steps[i]:.0f})"
        for i in sorted({0, len(kl) // 2, len(kl) - 1} if kl else ())
    ]
    return Curve("Reward against KL from the reference", svg, "Reward: " + ", ".join(words))


def _measured(side: dict[str, Any], name: str) -> float | None:
    value = (side.get("validation") or {}).get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _draw(
    lines: list[tuple[str, list[float], list[float]]],
    title: str,
    prefix: str,
    size: tuple[float, float],
) -> Curve:
    # Half a second to import, wanted by finished runs only.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    words, notes = [], []
    with rc_context(_STYLE):
        figure = Figure(figsize=size)
        axes = figure.add_axes(_box(size, _LEFT))
        for name, steps, values in lines:
            _plot(axes, name, _thinned(steps, values), second=name == "held out")
            called = title if len(lines) == 1 else f"{name} {title.lower()}"
            words.append(_in_words(called, steps, values))
            notes += _not_finite(called, steps, values)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel("step")
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        if lines[0][0] in _DECLARED and _DECLARED[lines[0][0]].from_zero:
            axes.set_ylim(0, axes.dataLim.y1 * 1.08 or 1)
        if len(lines) > 1:
            axes.legend(frameon=False, loc="best", labelcolor=_INK)
        axes.set_position(_box(size, _left_margin(axes)))
        svg = _to_svg(figure, prefix)
    return Curve(title, svg, ". ".join(words), tuple(notes))


def _box(size: tuple[float, float], left: float) -> tuple[float, float, float, float]:
    """Return the rectangle of the axes, as shares of a figure.

    Args:
        size: Width and height of the figure in inches.
        left: Left margin in inches; the other margins are the same for all curves.
    """
    width, height = size
    return left / width, 0.42 / height, 1 - (left + 0.06) / width, 1 - 0.5 / height


def _left_margin(axes: Any) -> float:
    """Return inches for the longest label of the y axis, with digits as wide as DejaVu Sans's."""
    low, high = sorted(axes.get_ylim())
    ticks = [value for value in axes.get_yticks() if low <= value <= high]
    longest = max((len(_tick(value, 0)) for value in ticks), default=0)
    return max(_LEFT, 0.12 + 0.08 * longest)


def _plot(axes: Any, name: str, points: tuple[list[float], list[float]], *, second: bool) -> None:
    steps, values = points
    few = len(steps) <= 40
    if second:
        axes.plot(
            steps, values, color=_SECOND, linestyle="--", marker="o", markersize=4, label=name
        )
        return
    smooth = (
        None if few or (name in _DECLARED and not _DECLARED[name].smooth) else _smoothed(values)
    )
    axes.plot(
        steps,
        values,
        color=_FIRST,
        linewidth=0.8 if smooth else 1.6,
        alpha=0.45 if smooth else 1,
        marker="." if few else None,
        label=None if smooth else name,
    )
    if smooth:
        axes.plot(steps, smooth, color=_FIRST, linewidth=1.8, label=name)


def _tick(value: float, _: int) -> str:
    """Return a tick label: `0.0015`, `12,500`, `1.05e−5`."""
    if abs(value) >= 1000:
        label = f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    else:
        label = f"{value:.6g}"
    return re.sub(r"e([+-])0*", r"e\1", label).replace("e+", "e").replace("-", "−")


def _smoothed(values: list[float]) -> list[float]:
    """Return the mean over a window of a twentieth of the curve around each point."""
    reach = max(1, len(values) // 40)
    smooth = []
    for index in range(len(values)):
        near = values[max(0, index - reach) : index + reach + 1]
        finite = [value for value in near if math.isfinite(value)]
        smooth.append(sum(finite) / len(finite) if finite else math.nan)
    return smooth


def _thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Return at most `_MOST_POINTS` points: the minimum and maximum of each interval."""
    if len(steps) <= _MOST_POINTS:
        return steps, values
    kept: list[int] = []
    width = len(steps) / (_MOST_POINTS // 2)
    for part in range(_MOST_POINTS // 2):
        stretch = range(int(part * width), int((part + 1) * width))
        finite = [i for i in stretch if math.isfinite(values[i])]
        if not finite:
            kept.append(stretch[0])
            continue
        low, high = min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)
        kept += sorted({low, high})
    return [steps[i] for i in kept], [values[i] for i in kept]


def _in_words(name: str, steps: list[float], values: list[float]) -> str:
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if not points:
        return f"{name}: NaN at every step"
    low = min(value for _, value in points)
    high = max(value for _, value in points)
    (first, start), (last, end) = points[0], points[-1]
    return (
        f"{name}: {number(start)} at step {first:.0f}, {number(end)} at step {last:.0f}, "
        f"between {number(low)} and {number(high)}"
    )


def _not_finite(name: str, steps: list[float], values: list[float]) -> list[str]:
    lost = [step for step, value in zip(steps, values, strict=True) if not math.isfinite(value)]
    if not lost:
        return []
    which = f"step {lost[0]:.0f}" if len(lost) == 1 else f"{len(lost)} steps, first {lost[0]:.0f}"
    return [
        f"{name[:1].upper()}{name[1:]} was NaN or infinite at {which}: the curve has a gap there."
    ]


def _to_svg(figure: Any, prefix: str) -> str:
    """Return a figure as SVG for an HTML page: no prolog, no metadata, unique ids."""
    from io import StringIO

    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)
    svg = re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' id="([^"]*)"', rf' id="{prefix}-\1"', svg)
    svg = svg.replace('xlink:href="#', 'href="#')
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    for stand_in, colour in _PAPER.items():
        svg = svg.replace(stand_in, colour)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1)
