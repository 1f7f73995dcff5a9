"""Conversations of several turns, each continued from the model's own answers."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.items import Item, Prompt
from evaluation.models.base import EvaluatedModel, GeneratedAnswers, GenerationSettings, TooLong


def converse(
    items: Sequence[Item], model: EvaluatedModel, settings: GenerationSettings
) -> tuple[list[Prompt], list[GeneratedAnswers | TooLong]]:
    """Return the prompt of the last answer to each item, and that answer.

    An item without further messages of the user has one answer. A conversation that no longer fits
    the model's context ends as too long.

    Args:
        items: The items.
        model: The model.
        settings: How answers are generated.
    """
    prompts = [item.prompt for item in items]
    outcomes = model.generate(prompts, settings)
    for turn in range(max((len(item.follow_ups) for item in items), default=0)):
        continued = []
        for number, item in enumerate(items):
            prompt, outcome = prompts[number], outcomes[number]
            if turn >= len(item.follow_ups) or not isinstance(outcome, GeneratedAnswers):
                continue
            assert isinstance(prompt, list)
            prompts[number] = [
                *prompt,
                {"role": "assistant", "content": outcome.texts[0]},
                {"role": "user", "content": item.follow_ups[turn]},
            ]
            continued.append(number)
        if not continued:
            break
        answers = model.generate([prompts[number] for number in continued], settings)
        for number, answer in zip(continued, answers, strict=True):
            outcomes[number] = answer
    return prompts, outcomes
