"""Table of measured methods: `make measured RUNS="runs/a/latest runs/b/latest"`.

Reads finished run folders of any jobs and writes the table in `docs/methods.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from benchmarks.readme_tables import circumstances, table, write_section
from training.report.metric_labels import metric_label
from training.report.rl_summary import is_rewarded
from training.report.run_data import RunData, at, read_run_data

PAGE = Path("docs/methods.md")
_HELD_OUT_METRICS = ("accuracy", "auc", "margin", "reward", "loss")
"""Held-out metrics to show, if a method has them."""
_FIRST, _LAST = 2, 5
"""Numbers of rollouts averaged at the start and at the end of training."""


def main() -> None:
    """Write the table of the given runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    runs = [read_run_data(path) for path in parser.parse_args().runs]
    rows = [row for whole in runs for run in whole.stages or (whole,) for row in _rows(run)]
    header = ["job", "method", "measured on", "measure", "before", "after"]
    write_section("methods", f"{circumstances()}\n\n{table(header, rows)}", PAGE)


def _rows(run: RunData) -> list[list[str]]:
    """Return a row for each metric of a run.

    Raises:
        SystemExit: The run has not finished.
    """
    if run.state != "finished":
        raise SystemExit(f"{run.name} {run.run_id} is {run.state}: only finished runs can be shown")
    method = str(at(run.job, "method", "kind"))
    if is_rewarded(run) and not run.after.get("validation"):
        return [[run.name, method, *line] for line in _rollouts(run)]
    count = at(run.after, "validation", "rows")
    where = "held-out rows" if count is None else f"{int(count)} held-out rows"
    rows = []
    for name in _HELD_OUT_METRICS:
        before, after = (at(side, "validation", name) for side in (run.before, run.after))
        if isinstance(before, int | float) and isinstance(after, int | float):
            words = metric_label(name).words
            rows.append([run.name, method, where, words, f"{before:.3f}", f"{after:.3f}"])
    return rows


def _rollouts(run: RunData) -> list[list[str]]:
    """Return the mean reward and KL divergence over the first and the last rollouts."""
    ends = {}
    for name in ("reward", "kl"):
        _, values = run.series(name)
        steps = at(run.job, "method", "epochs")
        # Each rollout is trained on for `epochs` steps, which all log the same values.
        values = values[:: int(steps) if isinstance(steps, int) else 1]
        ends[name] = (fmean(values[:_FIRST]), fmean(values[-_LAST:])) if values else None
    words = {"reward": metric_label("reward").words, "kl": metric_label("kl").words}
    where = f"first {_FIRST} and last {_LAST} rollouts"
    return [
        [where, words[name], f"{both[0]:.2f}", f"{both[1]:.2f}"]
        for name, both in ends.items()
        if both is not None
    ]


if __name__ == "__main__":
    main()
