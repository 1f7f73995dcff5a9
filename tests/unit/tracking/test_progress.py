"""Progress lines that programs parse, and the progress bar."""

from __future__ import annotations

import math
import os
import pty
import re
import select
import sys
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from tests.unit.report.run_folders import step
from training.config.types import NEVER
from training.step_metrics import StepMetrics
from training.tracking.metrics_writer import MetricsWriter
from training.tracking.progress_display import PlainProgress, ProgressBar, progress_display_for
from training.tracking.progress_lines import (
    METRIC_PATTERNS,
    evaluation_line,
    parse_line,
    progress_line,
)
from training.trainer.triggers import IntervalTrigger

VALUES = [0.0, 1.5, -2.25, 1234.0, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["loss", "learning_rate", "grad_norm", "tokens_per_second"])
def test_each_metric_reads_back(name: str, value: float) -> None:
    line = progress_line(step(7, 3.0) | {name: value}, 20, 65.0)
    found = parse_line(line)
    of_every_method = {"step", "loss", "learning_rate", "grad_norm", "tokens_per_second"}
    assert set(found) == of_every_method | {"memory_gib"}
    assert found["step"] == 7
    # Rates are written without decimals.
    wanted = round(value) if name == "tokens_per_second" and math.isfinite(value) else value
    assert found[name] == pytest.approx(wanted, rel=5e-3, nan_ok=True)


@pytest.mark.parametrize("value", VALUES)
def test_a_held_out_loss_reads_back(value: float) -> None:
    found = parse_line(evaluation_line(12, 20, {"loss": value, "perplexity": 2.0}))
    loss = pytest.approx(value, nan_ok=True)
    assert found == {"step": 12, "eval_loss": loss, "eval_perplexity": 2.0}


# Printed by `python -m training` for a job of each method.
LINES = {
    "step      2/2 | loss 0.4811 | lr 5.00e-04 | grad_norm 6.574 | tok/s 1160 | mem 0.65GiB "
    "| accuracy 1.0000 | margin 0.5341 | eta 0s": {"accuracy": 1.0, "margin": 0.5341},
    "step      2/2 | eval_loss 0.4288 | eval_accuracy 1.0000 | eval_margin 0.6514 "
    "| eval_reward_chosen -0.5639 | eval_reward_rejected -1.2153": {
        "eval_loss": 0.4288,
        "eval_accuracy": 1.0,
        "eval_margin": 0.6514,
    },
    "step      2/2 | loss 0.0001 | lr 5.00e-04 | grad_norm 1.961 | tok/s 443 | mem 0.60GiB "
    "| reward 0.4375 | kl 0.0426 | eta 0s": {"reward": 0.4375, "kl": 0.0426},
    "step      2/2 | eval_loss -0.4375 | eval_reward 0.4375 | eval_reward_length 0.4375": {
        "eval_loss": -0.4375,
        "eval_reward": 0.4375,
    },
}


@pytest.mark.parametrize("line", LINES)
def test_metrics_of_a_method_are_read_from_its_lines(line: str) -> None:
    common = {"step", "loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gib"}
    found = {name: value for name, value in parse_line(line).items() if name not in common}
    assert found == LINES[line]


def test_a_step_prints_the_metrics_that_its_method_adds() -> None:
    added = {"reward": 0.5, "accuracy": 0.75, "margin": 1.25, "kl": math.nan}
    found = parse_line(progress_line(step(7, 3.0) | added, 20, 65.0))
    assert {name: found[name] for name in added} == pytest.approx(added, nan_ok=True)


def test_metric_definitions_are_within_the_limits_of_the_service() -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AlgorithmSpecification.html"""
    assert len(METRIC_PATTERNS) <= 40
    assert all(len(name) <= 255 and len(p) <= 500 for name, p in METRIC_PATTERNS.items())


def test_a_norm_the_engine_does_not_know_is_left_out() -> None:
    assert "grad_norm" not in parse_line(progress_line(step(1, 1.0, grad_norm=None), 9, 0.0))


def test_patterns_find_nothing_in_other_lines() -> None:
    assert parse_line("data: 8,201 rows to train on, 91 held out; the loss fell") == {}


class Terminal:
    """A pseudo-terminal: what is written to `stream` is what a person's terminal receives."""

    def __init__(self) -> None:
        self._mine, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")

    def close(self) -> None:
        self.stream.close()
        os.close(self._mine)

    @property
    def received(self) -> str:
        self.stream.flush()
        parts = []
        # It arrives in parts; what is still on its way takes no tenth of a second.
        while select.select([self._mine], [], [], 0.1)[0]:
            parts.append(os.read(self._mine, 1 << 16))
        return b"".join(parts).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with closing(Terminal()) as made:
        yield made


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    bar = progress_display_for(terminal.stream, 20)
    assert isinstance(bar, ProgressBar)
    bar.begin(4)
    bar.advance(5)
    bar.print("step      5/20 | eval_loss [3.1]")
    bar.show(step(6, 2.5), 65.0)
    bar.end()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.received)
    last = text.replace("\r", "\n").strip().splitlines()[-1]
    assert re.fullmatch(
        r"step 6/20 [━╸╺]+ loss 2\.5000 · 1,23[45] tok/s · 0\.50 GiB · 1m05s left *", last
    ), last
    # A line of its own, brackets and all, with the bar below it.
    assert "step      5/20 | eval_loss [3.1]" in [line.strip() for line in text.splitlines()]


def test_a_bar_gives_the_cursor_back(terminal: Terminal) -> None:
    bar = progress_display_for(terminal.stream, 20)
    bar.begin(0)
    bar.end()
    bar.end()
    received = terminal.received
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") == 1


@pytest.mark.parametrize("setting", [("CI", "true"), ("TERM", "dumb")])
def test_no_bar_where_nobody_watches(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]
) -> None:
    monkeypatch.setenv(*setting)
    assert isinstance(progress_display_for(terminal.stream, 20), PlainProgress)


def test_a_pipe_gets_lines() -> None:
    stream = StringIO()
    lines = progress_display_for(stream, 20)
    lines.begin(0)
    lines.advance(1)
    lines.show(step(1, 2.5), 65.0)
    lines.end()
    assert stream.getvalue() == progress_line(step(1, 2.5), 20, 65.0) + "\n"


def test_a_run_stopped_by_an_error_leaves_the_terminal_as_it_was(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    record = MetricsWriter(tmp_path, IntervalTrigger(NEVER, 10), 20)
    facts = StepMetrics(
        step=1,
        epoch=0.1,
        loss=3.0,
        grad_norm=1.0,
        learning_rate=1e-3,
        tokens=100,
        supervised_tokens=50,
        row_ids=("a:1",),
        seconds=0.1,
        extra={},
    )
    with pytest.raises(ZeroDivisionError), record:
        record.on_start(None, 0)
        record.on_step(facts, None)
        raise ZeroDivisionError
    received = terminal.received
    assert "step 1/20" in received
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") == 1
    assert sys.stdout is terminal.stream
