"""Sampling, the layout of a rollout, and the order in which steps train on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from training.methods.ppo.rollout import IGNORE, RolloutBatch, Transition, layout
from training.models.generate import Sampler, sample, uniforms
from training.trainer.sample_order import RolloutOrder, SampleOrder


def test_sampled_frequencies_match_the_probabilities() -> None:
    number, temperature = 20_000, 0.7
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    draws = uniforms([1], range(number), 1)
    scores = logits.expand(number, -1)
    chosen = Sampler(draws, temperature, 3)(torch.zeros(number, 3), scores).argmax(dim=1)
    expected = torch.softmax(logits / temperature, dim=0)
    found = torch.bincount(chosen, minlength=5) / number
    # Five standard errors of a share of 20,000.
    assert (found - expected).abs().max() < 5 * (0.25 / number) ** 0.5
    assert found[4] == 0


def test_random_numbers_belong_to_an_answer() -> None:
    whole = uniforms([7, 0, 3], range(6), 4)
    assert torch.equal(uniforms([7, 0, 3], [4, 1], 4), whole[[4, 1]])
    assert torch.equal(uniforms([7, 0, 3], [2], 2), whole[2:3, :2])
    others = [uniforms(seed, range(6), 4) for seed in ([7, 0, 4], [7, 1, 3], [8, 0, 3])]
    assert not any(torch.isclose(whole, other).any() for other in others)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


PROMPTS = [[1, 20, 30], [1, 40, 50, 60, 70, 80, 90], [1, 33], [1, 200, 201, 202], [1, 25] * 9]


def test_answers_do_not_depend_on_their_batch(model: Any) -> None:
    prompts = PROMPTS * 3
    draws = uniforms([5], range(15), 20)
    settings: dict[str, Any] = {"temperature": 1.0, "end_ids": [2], "pad_id": 2}
    together = sample(model, prompts, draws, **settings)
    alone = [
        sample(model, [prompt], draws[place : place + 1], **settings)[0]
        for place, prompt in enumerate(prompts)
    ]
    assert together == alone
    assert len({tuple(answer.ids) for answer in together}) == 15


def test_an_answer_ends_with_its_end_token_even_if_it_is_also_padding(model: Any) -> None:
    """Padding and end token have the same id: the length determines the answer."""
    draws = uniforms([5], range(40), 24)
    answers = sample(model, PROMPTS * 8, draws, temperature=1.3, end_ids=[2, 9, 14, 50], pad_id=2)
    ended = [answer for answer in answers if answer.ended]
    assert 5 < len(ended) < 40
    for answer in answers:
        assert answer.ended == (answer.ids[-1] in {2, 9, 14, 50})
        assert not {2, 9, 14, 50} & set(answer.ids[:-1])
        assert answer.ended or len(answer.ids) == 24


def test_generation_settings_of_the_model_are_not_used_in_training(model: Any) -> None:
    draws = uniforms([5], range(5), 20)
    plain = sample(model, PROMPTS, draws, temperature=1.0, end_ids=[2], pad_id=2)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.min_new_tokens = 19
    assert sample(model, PROMPTS, draws, temperature=1.0, end_ids=[2], pad_id=2) == plain
    assert model.generation_config.repetition_penalty == 5.0
    model.generation_config.repetition_penalty = 1.0


def transition(prompt: list[int], answer: list[int], *, ended: bool, score: float) -> Transition:
    numbers = torch.arange(len(answer), dtype=torch.float32)
    return Transition(
        prompt="asked",
        prompt_ids=prompt,
        answer_ids=answer,
        ended=ended,
        text="said",
        score=score,
        rewards={},
        old_log_probs=-numbers - 1,
        reference_log_probs=-numbers - 1.5,
        values=numbers / 10,
        entropy=numbers,
    )


TRANSITIONS = [
    transition([1, 5, 6], [7, 2], ended=True, score=1.0),
    transition([1], [8, 9, 10, 11], ended=False, score=-1.0),
    transition([1, 5], [2], ended=True, score=0.5),
]


def rollout(**settings: Any) -> RolloutBatch:
    return RolloutBatch.from_transitions(
        TRANSITIONS, **{"kl_coefficient": 0.1, "gamma": 1.0, "lam": 1.0, **settings}
    )


def test_labels_are_the_answers_in_the_order_of_their_values() -> None:
    batch = rollout(drop_truncated=False).batch([1, 0])
    assert batch["input_ids"].tolist() == [[1, 8, 9, 10, 11], [1, 5, 6, 7, 2]]
    assert batch["labels"].tolist() == [[IGNORE, 8, 9, 10, 11], [IGNORE] * 3 + [7, 2]]
    assert batch["position_ids"].tolist() == [list(range(5))] * 2
    assert batch["old_log_probs"].tolist() == [-1, -2, -3, -4, -1, -2]
    # With λ = γ = 1, returns are sums of future rewards. Each token costs 0.1 · 0.5 nats; the
    # score is added to the last one.
    to_come = [-1 - 0.05 * left for left in (4, 3, 2, 1)] + [1 - 0.05 * left for left in (2, 1)]
    assert batch["returns"].tolist() == pytest.approx(to_come)
    batch_of_all = rollout(drop_truncated=False)
    learned = batch_of_all.advantages[batch_of_all.learn_mask.bool()]
    assert float(learned.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(learned.var(correction=0)) == pytest.approx(1.0, abs=1e-6)


def test_truncated_answers_can_be_excluded() -> None:
    dropped = rollout(drop_truncated=True)
    assert dropped.count_learned([0, 1, 2]) == 3
    batch = dropped.batch([1, 0])
    assert (batch["labels"][0] == IGNORE).all()
    assert batch["old_log_probs"].tolist() == [-1, -2]
    counted = dropped.advantages[dropped.learn_mask.bool()]
    assert float(counted.mean()) == pytest.approx(0.0, abs=1e-6)


def test_a_rollout_is_restored_from_its_state() -> None:
    before = rollout(drop_truncated=False)
    after = RolloutBatch.from_state_dict(before.state_dict())
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name


def test_layout_pads_on_the_right() -> None:
    batch = layout([[1, 5], [1]], [[7], [8, 9, 2]])
    assert batch["input_ids"].tolist() == [[1, 5, 7, 0], [1, 8, 9, 2]]
    assert batch["labels"].tolist() == [[IGNORE, IGNORE, 7, IGNORE], [IGNORE, 8, 9, 2]]


def rounds(**changes: Any) -> RolloutOrder:
    settings: dict[str, Any] = {
        "num_rows": 10,
        "global_batch_size": 4,
        "total_rows": 48,
        "seed": 3,
        "round_rows": 8,
        "passes": 3,
    }
    return RolloutOrder(**{**settings, **changes})


def test_each_pass_visits_every_position_once_in_another_order() -> None:
    order = rounds()
    assert (order.steps_per_round, order.max_steps) == (6, 12)
    passes = [order.positions_at(step) + order.positions_at(step + 1) for step in range(0, 12, 2)]
    assert all(sorted(places) == list(range(8)) for places in passes)
    assert len({tuple(places) for places in passes}) == 6
    assert [order.round_at(step) for step in range(12)] == [0] * 6 + [1] * 6


def test_rollouts_take_the_rows_in_the_order_of_other_methods() -> None:
    line = [row for step in SampleOrder(10, 4, 40, 3).steps() for row in step]
    order = rounds()
    assert order.rows_in_round(0) + order.rows_in_round(1) + order.rows_in_round(2) == line[:24]
    assert all(count == 2 for count in Counter(line[:20]).values())
    assert [order.epoch_at(step) for step in (0, 6, 12)] == [0, 0.8, 1.6]
    steps = list(order.steps())
    assert len(steps) == 12
    assert sorted(steps[0] + steps[1]) == sorted(order.rows_in_round(0))


def test_a_run_by_epochs_ends_with_a_complete_rollout() -> None:
    line = SampleOrder.for_run(
        10, global_batch_size=4, epochs=1, max_steps=None, seed=3, shuffle=True
    )
    assert RolloutOrder.from_order(line, 8, 3, by_epochs=True).max_steps == 12
    by_steps = SampleOrder.for_run(
        10, global_batch_size=4, epochs=1, max_steps=7, seed=3, shuffle=True
    )
    assert RolloutOrder.from_order(by_steps, 8, 3, by_epochs=False).max_steps == 7
