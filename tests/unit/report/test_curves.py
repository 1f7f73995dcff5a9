"""Curves of the report: every label lies inside its figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.report.run_folders import JOB, step, write_run
from training.report.curves import Curve, draw_curves
from training.report.run_data import read_run_data

_DIGIT = 0.636
"""Width of a digit of DejaVu Sans, one of the widest fonts of a page, in font sizes."""
_TEXT = re.compile(
    r'<text style="font-size: ([\d.]+)px; text-anchor: (\w+)[^"]*" x="([\d.-]+)"[^>]*>([^<]*)<'
)


def outside(curve: Curve) -> list[str]:
    """Return the labels that begin or end outside the view box."""
    width = float(curve.svg.split('viewBox="')[1].split()[2])
    found = []
    for size, anchor, x, label in _TEXT.findall(curve.svg):
        extent = _DIGIT * float(size) * len(label)
        left = float(x) - {"start": 0, "middle": extent / 2, "end": extent}[anchor]
        if left < 0 or left + extent > width:
            found.append(label)
    assert _TEXT.search(curve.svg)
    return found


@pytest.mark.parametrize("rate", [1e-3, 1e-5, 3.3e-7, 2e-4])
def test_labels_of_a_constant_learning_rate_are_not_cut_off(tmp_path: Path, rate: float) -> None:
    rows = [{**step(n, 2.0 - n / 100), "learning_rate": rate} for n in range(1, 61)]
    curves = draw_curves(read_run_data(write_run(tmp_path / "run", rows=rows)), "r")
    assert {curve.title: outside(curve) for curve in curves if outside(curve)} == {}


@pytest.mark.parametrize("rising", [True, False])
def test_steps_on_the_frontier_are_not_cut_off(tmp_path: Path, rising: bool) -> None:
    def kl(n: int) -> float:
        return n / 10 if rising else 6 - n / 10

    rows = [step(n, 0.0, reward=n / 40, kl=kl(n)) for n in range(1, 61)]
    job = JOB.replace("kind: sft", "kind: grpo")
    curves = draw_curves(read_run_data(write_run(tmp_path / "run", rows=rows, job=job)), "r")
    assert curves[0].title == "Reward against KL from the reference"
    assert ">step 60<" in curves[0].svg
    assert {curve.title: outside(curve) for curve in curves if outside(curve)} == {}
    # All curves but the first have the same size.
    sizes = {curve.svg.split('viewBox="')[1].split('"')[0] for curve in curves[1:]}
    assert len(sizes) == 1
