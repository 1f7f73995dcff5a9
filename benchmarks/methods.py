"""What each method moved, as measured: `make measured RUNS="runs/a/latest runs/b/latest"`.

Reads finished run folders, of whatever jobs, and writes the table in `docs/methods.md`, of which
nothing is typed by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from benchmarks.readme_tables import circumstances, table, write_section
from training.report.metric_labels import MEASURES
from training.report.rl_summary import is_rewarded
from training.report.run_data import RunData, at, read_run_data

PAGE = Path("docs/methods.md")
_OWN = ("accuracy", "auc", "margin", "reward", "loss")
"""Held-out measures that are shown, where a method has them."""
_FIRST, _LAST = 2, 5
"""Rollouts averaged at the start, when little is learned yet, and at the end."""


def main() -> None:
    """Write the table of the runs that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    stories = [read_run_data(path) for path in parser.parse_args().runs]
    rows = [row for story in stories for run in story.stages or (story,) for row in _rows(run)]
    header = ["job", "method", "measured on", "measure", "before", "after"]
    write_section("methods", f"{circumstances()}\n\n{table(header, rows)}", PAGE)


def _rows(run: RunData) -> list[list[str]]:
    """Return a line for each measure of a run.

    Raises:
        SystemExit: The run has not finished.
    """
    if run.state != "finished":
        raise SystemExit(f"{run.name} {run.run_id} is {run.state}: only finished runs are shown")
    method = str(at(run.job, "method", "kind"))
    if is_rewarded(run) and not run.after.get("validation"):
        return [[run.name, method, *line] for line in _rollouts(run)]
    count = at(run.after, "validation", "rows")
    where = "held-out rows" if count is None else f"{int(count)} held-out rows"
    found = []
    for name in _OWN:
        before, after = (at(side, "validation", name) for side in (run.before, run.after))
        if isinstance(before, int | float) and isinstance(after, int | float):
            words = MEASURES[name].words
            found.append([run.name, method, where, words, f"{before:.3f}", f"{after:.3f}"])
    return found


def _rollouts(run: RunData) -> list[list[str]]:
    """Return the means over the first and the last rollouts: reward, and distance."""
    ends = {}
    for name in ("reward", "kl"):
        _, values = run.series(name)
        steps = at(run.job, "method", "epochs")
        # Each rollout is learned from in so many steps, which all log its numbers.
        values = values[:: int(steps) if isinstance(steps, int) else 1]
        ends[name] = (fmean(values[:_FIRST]), fmean(values[-_LAST:])) if values else None
    words = {"reward": MEASURES["reward"].words, "kl": MEASURES["kl"].words}
    where = f"first {_FIRST} and last {_LAST} rollouts"
    return [
        [where, words[name], f"{both[0]:.2f}", f"{both[1]:.2f}"]
        for name, both in ends.items()
        if both is not None
    ]


if __name__ == "__main__":
    main()
