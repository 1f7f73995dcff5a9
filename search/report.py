"""Page of a search: the result, importance of the keys, parallel coordinates, all trials."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.job_file import SearchJob
from search.population import schedule
from search.seeds import SeedResult
from training.page_environment import page_environment
from training.run_folder import write_whole

_HERE = Path(__file__).parent
_STYLE = _HERE.parent / "training" / "report"
_SIZE_INCHES = (8.0, 3.4)
_MIN_TRIALS = 4
"""Complete trials without which importances and curves say nothing."""


@dataclass(frozen=True)
class Figure:
    """Figure of the page.

    Attributes:
        title: Its caption.
        svg: The drawing.
        note: How to read it.
    """

    title: str
    svg: str
    note: str


def write_report(
    path: Path,
    search: SearchJob,
    study: optuna.Study,
    best: FrozenTrial | None,
    seeds: SeedResult | None,
) -> None:
    """Write the page of a search.

    Args:
        path: The file.
        search: The search.
        study: Its trials.
        best: Best trial that passes the gates, if there is one.
        seeds: Values over seeds, if they were trained.
    """
    population = search.settings.algorithm == "pbt"
    environment = page_environment(_HERE, _STYLE, number=_number)
    page = environment.get_template("page_of_search.html.jinja").render(
        search=search,
        settings=search.settings,
        trials=study.get_trials(deepcopy=False),
        best=best,
        seeds=seeds,
        figures=_figures(study, best, parts=population),
        schedule=_schedule(search, study, best) if population else [],
        state_of=_state,
    )
    write_whole(path, page)


def _schedule(
    search: SearchJob, study: optuna.Study, best: FrozenTrial | None
) -> list[dict[str, Any]]:
    if best is None:
        return []
    return schedule(search.settings, search.job, study.get_trials(deepcopy=False), best.number)


def _figures(study: optuna.Study, best: FrozenTrial | None, *, parts: bool) -> list[Figure]:
    """Return the figures of a search.

    Args:
        study: Its trials.
        best: The best of them.
        parts: Trials are parts of runs, whose values do not explain their results alone.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if best is None or len(complete) < _MIN_TRIALS:
        return []
    from optuna.visualization import matplotlib as plots

    drawn = [
        (
            "Progress",
            plots.plot_optimization_history,
            "Each point is a trial; the line is the best so far.",
        )
    ]
    if parts:
        return [Figure(title, _svg(plot, study), note) for title, plot, note in drawn]
    if len(study.get_trials(deepcopy=False)[0].distributions) > 1:
        drawn += [
            (
                "Importance of the keys",
                plots.plot_param_importances,
                "Share of the objective's variation over the space that a key explains. With few "
                "trials it is rough.",
            ),
            (
                "Parallel coordinates",
                plots.plot_parallel_coordinate,
                "Each line is a trial; its colour is the objective.",
            ),
        ]
    drawn.append(("Each key", plots.plot_slice, "Objective by the value of one key."))
    return [Figure(title, _svg(plot, study), note) for title, plot, note in drawn]


def _svg(plot: Callable[[optuna.Study], Any], study: optuna.Study) -> str:
    import warnings

    import matplotlib as mpl

    mpl.use("agg")  # Optuna measures text, for which the SVG canvas has no method
    import matplotlib.pyplot as plt

    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "temper", "font.size": 9}):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot(study)
        figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
        figure.suptitle("")
        for part in figure.axes:
            for side in ("center", "left"):
                part.set_title("", loc=side)  # the page has a heading
            part.set_facecolor("white")
            part.grid(color="#d5dbe2", linewidth=0.5)
        figure.set_size_inches(*_SIZE_INCHES)
        text = io.StringIO()
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _state(trial: FrozenTrial) -> str:
    names = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "ended early",
        TrialState.FAIL: "failed",
    }
    return names.get(trial.state, "in progress")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
