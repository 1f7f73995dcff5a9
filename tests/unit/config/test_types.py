"""Values as people write them are read as they mean and printed back the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from training.config.runtime import Resources
from training.config.types import (
    NEVER,
    Every,
    Warmup,
    parse_duration_s,
    parse_every,
    parse_every_or_none,
    parse_money_usd,
    parse_share,
    parse_warmup,
    print_duration,
)


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), (" 2.5 % ", 0.025), ("0%", 0.0), ("100%", 1.0), (0.05, 0.05), (1, 1.0)],
)
def test_share(text: object, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("value", ["5", "101%", "-1%", 1.5, -0.1, True, None, "five", "", "5 %%"])
def test_no_share(value: object) -> None:
    with pytest.raises(ValueError, match="%"):
        parse_share(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90 sec", 90), ("10min", 600), ("10m", 600), ("1.5h", 5400), ("2d", 172800)],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("value", [90, "90", "10 minutes", "h", "-1h", "1h30min", None, ""])
def test_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_duration_s(value)


@given(st.integers(min_value=1, max_value=10**9))
def test_duration_round_trip(seconds: int) -> None:
    assert parse_duration_s(print_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "dollars"), [("300 USD", 300), ("$300", 300), ("300", 300), (300, 300), ("$1.5", 1.5)]
)
def test_money(text: object, dollars: float) -> None:
    assert parse_money_usd(text) == dollars


@given(st.integers(0, 10**9))
def test_money_round_trip(cents: int) -> None:
    job = Resources(max_cost=cents / 100)
    assert Resources(**job.model_dump()).max_cost == job.max_cost


@pytest.mark.parametrize("value", ["300 EUR", -1, "-1 USD", "a lot", True, None])
def test_no_money(value: object) -> None:
    with pytest.raises(ValueError, match="dollars"):
        parse_money_usd(value)


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("40 steps", Every(40, "steps")),
        ("1 step", Every(1, "steps")),
        (40, Every(40, "steps")),
        ("epoch", Every(1, "epochs")),
        ("0.5 epochs", Every(0.5, "epochs")),
        ("10min", Every(600, "seconds")),
    ],
)
def test_every(text: object, every: Every) -> None:
    assert parse_every(text) == every


@pytest.mark.parametrize("value", [None, "none", NEVER])
def test_every_or_none(value: object) -> None:
    assert parse_every_or_none(value) == NEVER
    assert parse_every_or_none(str(NEVER)) == NEVER
    assert parse_every_or_none("epoch") == Every(1, "epochs")


@pytest.mark.parametrize("value", ["steps", " step "])
def test_steps_without_a_number(value: object) -> None:
    """`eval_strategy: steps` of other tools is no interval of one step."""
    for parse in (parse_every, parse_every_or_none, parse_warmup):
        with pytest.raises(ValueError, match="lacks the number of steps"):
            parse(value)


@pytest.mark.parametrize("value", [0, -4, 1.5, "0 steps", "1.5 steps", "0min", "often", True, None])
def test_not_every(value: object) -> None:
    with pytest.raises(ValueError, match="step"):
        parse_every(value)


_EVERY = st.one_of(
    st.builds(Every, st.integers(1, 10**9).map(float), st.just("steps")),
    st.builds(Every, st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.5]), st.just("epochs")),
    st.builds(Every, st.integers(1, 10**9).map(float), st.just("seconds")),
)


@given(_EVERY)
def test_every_round_trip(every: Every) -> None:
    assert parse_every(str(every)) == every


@pytest.mark.parametrize(
    ("text", "warmup"),
    [
        ("3%", Warmup(0.03, "share")),
        ("100 steps", Warmup(100, "steps")),
        (100, Warmup(100, "steps")),
        (0, Warmup(0, "steps")),
    ],
)
def test_warmup(text: object, warmup: Warmup) -> None:
    assert parse_warmup(text) == warmup


@pytest.mark.parametrize("value", [0.1, -1, "10", "2 epochs", "110%", True, None])
def test_no_warmup(value: object) -> None:
    with pytest.raises(ValueError, match="%"):
        parse_warmup(value)


@given(st.integers(0, 10_000), st.integers(1, 10**6))
@example(140, 250)  # 1.4 / 100 is not 0.014: 3 steps where the share means 4
def test_warmup_share_round_trip(hundredths_of_percent: int, max_steps: int) -> None:
    warmup = Warmup(hundredths_of_percent / 10_000, "share")
    again = parse_warmup(str(warmup))
    assert math.isclose(again.value, warmup.value, abs_tol=1e-7)
    assert again.steps(max_steps) == warmup.steps(max_steps)


@given(st.integers(0, 10**6))
def test_warmup_steps_round_trip(steps: int) -> None:
    assert parse_warmup(str(Warmup(float(steps), "steps"))).steps(10) == steps
