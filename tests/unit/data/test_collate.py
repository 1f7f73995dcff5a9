from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.config.static_shapes import StaticShapes
from training.data.collators.sequences import SequenceCollator


def row(*documents: list[int], learned: int = 1) -> dict[str, Any]:
    ids = [token for document in documents for token in document]
    labels = [
        token if place >= learned else -100 for document in documents
        for place, token in enumerate(document)
    ]  # fmt: skip
    return {
        "input_ids": ids,
        "labels": labels,
        "seq_lengths": [len(document) for document in documents],
        "ids": [f"d:{i}" for i in range(len(documents))],
    }


def test_padding_is_by_length_even_where_pad_is_end_of_text() -> None:
    batch = SequenceCollator(pad_id=2)([row([1, 5, 2]), row([1, 5, 6, 7, 2])])
    assert batch["input_ids"].tolist() == [[1, 5, 2, 2, 2], [1, 5, 6, 7, 2]]
    assert batch["labels"].tolist() == [[-100, 5, 2, -100, -100], [-100, 5, 6, 7, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert set(batch) == {"input_ids", "labels", "position_ids"}


def test_packed_positions_restart_at_documents_and_padding() -> None:
    collate = SequenceCollator(pad_id=0, packed=True, max_length=8)
    batch = collate([row([1, 5, 2], [1, 6]), row([1] * 8), collate.padding_example()])
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 0, 1, 0, 1, 2],
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3, 4, 5, 6, 7],
    ]
    assert batch["labels"][0].tolist() == [-100, 5, 2, -100, 6, -100, -100, -100]
    assert (batch["labels"][2] == -100).all()


def test_lengths_are_rounded_up() -> None:
    shapes = StaticShapes((4, 8, 16))
    batch = SequenceCollator(pad_id=0, shapes=shapes)(
        [row([1, 5, 2, 7, 8]), SequenceCollator(0).padding_example()]
    )
    assert batch["input_ids"].shape == (2, 8)
    assert SequenceCollator(0, packed=True, max_length=10, shapes=shapes)([row([1])])[
        "input_ids"
    ].shape == (1, 16)


def test_row_numbers_pass_through() -> None:
    batch = SequenceCollator(0)(
        [
            {**row([1, 2]), "row_index": 7},
            {**SequenceCollator(0).padding_example(), "row_index": -1},
        ]
    )
    assert batch["row_index"].tolist() == [7, -1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_do_not_see_each_other(attention: str) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    documents = [[1, *torch.randint(3, 64, (n,)).tolist()] for n in (7, 12, 5)]
    packed = SequenceCollator(0, packed=True, max_length=40)([row(*documents)])
    labels = packed.pop("labels")
    with torch.no_grad():
        together = model(**packed, use_cache=False).logits[0]
        start = 0
        losses = []
        for document in documents:
            alone = SequenceCollator(0)([row(document)])
            own = alone.pop("labels")
            logits = model(**alone, use_cache=False).logits[0]
            stop = start + len(document)
            assert torch.allclose(together[start:stop], logits, atol=1e-5)
            losses.append(torch.nn.functional.cross_entropy(
                logits[:-1], own[0][1:], ignore_index=-100, reduction="sum"
            ))  # fmt: skip
            start = stop
    loss = torch.nn.functional.cross_entropy(
        together[:-1], labels[0][1:], ignore_index=-100, reduction="sum"
    )
    assert torch.allclose(loss, sum(losses, torch.zeros(())), atol=1e-4)
