"""On-policy batches: prompt extraction, left padding, and the end of each answer."""

from __future__ import annotations

import torch

from training.methods.common.on_policy import build_answer_batch, extract_prompts, pad_left

PAD, END = 0, 9


def test_prompts_end_at_the_first_supervised_token() -> None:
    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, PAD, PAD], [PAD] * 4]),
        "labels": torch.tensor([[-100, -100, 3, 4], [-100, 6, -100, -100], [-100] * 4]),
    }
    assert [prompt.tolist() for prompt in extract_prompts(batch)] == [[1, 2], [5], []]


def test_prompts_are_padded_on_the_left() -> None:
    ids, mask = pad_left([torch.tensor([1, 2, 3]), torch.tensor([4])], PAD)
    assert ids.tolist() == [[1, 2, 3], [PAD, PAD, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_answers_are_supervised_up_to_their_end_token() -> None:
    answers = torch.tensor([[7, END, 5, 5], [6, 7, 8, 8], [END, END, END, END]])
    batch = build_answer_batch(
        [torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([4])], answers, [END], PAD
    )
    assert batch["input_ids"].tolist() == [
        [1, 2, 7, END, PAD],
        [3, 6, 7, 8, 8],
        [4, END, *[PAD] * 3],
    ]
    assert batch["labels"].tolist() == [
        [-100, -100, 7, END, -100],
        [-100, 6, 7, 8, 8],
        [-100, END, -100, -100, -100],
    ]
    assert batch["num_tokens"] == 4 + 5 + 2


def test_a_padding_row_has_no_supervised_tokens() -> None:
    batch = build_answer_batch(
        [torch.tensor([], dtype=torch.long)], torch.tensor([[5, 6]]), [END], PAD
    )
    assert batch["num_tokens"] == 0
    assert (batch["labels"] == -100).all()
