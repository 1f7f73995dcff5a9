"""Temperature scaling recovers a known miscalibration."""

from __future__ import annotations

import pytest
import torch

from training.methods.common.temperature_scaling import TOKENS, fit_temperature

WORDS = 12


def drawn(overconfidence: float, tokens: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are `overconfidence` times too large for the labels drawn with them."""
    torch.manual_seed(0)
    logits = 1.5 * torch.randn(tokens, WORDS)
    labels = torch.multinomial(logits.softmax(-1), 1)[:, 0]
    return overconfidence * logits, labels


@pytest.mark.parametrize("overconfidence", [0.4, 1.0, 2.5, 6.0])
def test_the_known_temperature_is_recovered(overconfidence: float) -> None:
    logits, labels = drawn(overconfidence)
    fitted = fit_temperature([(logits, labels)])
    assert fitted.temperature == pytest.approx(overconfidence, rel=0.05)
    expected = torch.nn.functional.cross_entropy(logits / overconfidence, labels)
    assert fitted.loss == pytest.approx(float(expected), rel=0.01)


def test_the_fit_does_not_depend_on_batches_and_stops_reading() -> None:
    logits, labels = drawn(3.0, TOKENS)
    parts = list(zip(logits.split(100), labels.split(100), strict=True))
    single = fit_temperature([(logits, labels)]).temperature
    assert fit_temperature(parts).temperature == pytest.approx(single, rel=1e-4)

    def endless():  # type: ignore[no-untyped-def]
        yield from parts
        raise AssertionError("read on")

    assert fit_temperature(endless()).temperature == pytest.approx(single, rel=1e-4)


def test_the_temperature_is_1_without_labels() -> None:
    empty = (torch.zeros(0, WORDS), torch.zeros(0, dtype=torch.long))
    assert fit_temperature([empty]).temperature == 1.0
