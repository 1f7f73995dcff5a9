"""A teacher's temperature is the one at which it is as sure as it is right."""

from __future__ import annotations

import pytest
import torch

from training.methods.common.temperature_scaling import TOKENS, fit_temperature

WORDS = 12


def drawn(sureness: float, tokens: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are `sureness` times too large for the labels drawn with them."""
    torch.manual_seed(0)
    logits = 1.5 * torch.randn(tokens, WORDS)
    labels = torch.multinomial(logits.softmax(-1), 1)[:, 0]
    return sureness * logits, labels


@pytest.mark.parametrize("sureness", [0.4, 1.0, 2.5, 6.0])
def test_finds_what_was_hidden(sureness: float) -> None:
    logits, labels = drawn(sureness)
    found = fit_temperature([(logits, labels)])
    assert found.temperature == pytest.approx(sureness, rel=0.05)
    right = torch.nn.functional.cross_entropy(logits / sureness, labels)
    assert found.loss == pytest.approx(float(right), rel=0.01)


def test_batches_do_not_matter_and_enough_is_enough() -> None:
    logits, labels = drawn(3.0, TOKENS)
    parts = list(zip(logits.split(100), labels.split(100), strict=True))
    whole = fit_temperature([(logits, labels)]).temperature
    assert fit_temperature(parts).temperature == pytest.approx(whole, rel=1e-4)

    def endless():  # type: ignore[no-untyped-def]
        yield from parts
        raise AssertionError("read on")

    assert fit_temperature(endless()).temperature == pytest.approx(whole, rel=1e-4)


def test_nothing_to_learn_is_left_alone() -> None:
    nothing = (torch.zeros(0, WORDS), torch.zeros(0, dtype=torch.long))
    assert fit_temperature([nothing]).temperature == 1.0
