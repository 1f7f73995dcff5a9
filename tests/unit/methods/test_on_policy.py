"""Rows that a student wrote itself: what was asked, what it said, where that ends."""

from __future__ import annotations

import torch

from training.methods.common.on_policy import build_answer_batch, extract_prompts, pad_left

PAD, END = 0, 9


def test_prompts_end_where_learning_begins() -> None:
    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, PAD, PAD], [PAD] * 4]),
        "labels": torch.tensor([[-100, -100, 3, 4], [-100, 6, -100, -100], [-100] * 4]),
    }
    assert [prompt.tolist() for prompt in extract_prompts(batch)] == [[1, 2], [5], []]


def test_prompts_are_padded_in_front() -> None:
    ids, mask = pad_left([torch.tensor([1, 2, 3]), torch.tensor([4])], PAD)
    assert ids.tolist() == [[1, 2, 3], [PAD, PAD, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_answers_are_learned_up_to_their_end() -> None:
    answers = torch.tensor([[7, END, 5, 5], [6, 7, 8, 8], [END, END, END, END]])
    made = build_answer_batch(
        [torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([4])], answers, [END], PAD
    )
    assert made["input_ids"].tolist() == [
        [1, 2, 7, END, PAD],
        [3, 6, 7, 8, 8],
        [4, END, *[PAD] * 3],
    ]
    assert made["labels"].tolist() == [
        [-100, -100, 7, END, -100],
        [-100, 6, 7, 8, 8],
        [-100, END, -100, -100, -100],
    ]
    assert made["num_tokens"] == 4 + 5 + 2


def test_a_filler_says_nothing() -> None:
    made = build_answer_batch(
        [torch.tensor([], dtype=torch.long)], torch.tensor([[5, 6]]), [END], PAD
    )
    assert made["num_tokens"] == 0
    assert (made["labels"] == -100).all()
