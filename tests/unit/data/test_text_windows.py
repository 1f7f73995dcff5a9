"""Windows of long texts, compared with a Transformers tokenizer and with its perplexity page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from planning.dataset_stats import read_dataset_stats
from planning.model_shape import ModelShape
from planning.text_windows import window_lengths
from tests.unit.data.data_factories import byte_level, make_job, sentencepiece_like, write_jsonl
from training.data.prepare import Prepared
from training.data.schema.rows import TextRow
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.text_windows import window_bounds
from training.data.tokenization.token_rows import IGNORE, TokenRow
from training.errors import JobError

TOKENIZERS = (sentencepiece_like(), byte_level())
TEXT = "the cat sat on a mat and the dog ran to the river where fish swim all day long. "

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


def windows(
    tokenizer: PreTrainedTokenizerFast, text: str, size: int, overlap: int
) -> list[TokenRow]:
    rows = RowTokenizer(Encoder(tokenizer), None, "text", "all", size, overlap=overlap)
    (outcome,) = rows([TextRow("x:1", text)])
    assert isinstance(outcome, list), outcome
    return outcome


@settings(max_examples=80, deadline=None)
@given(
    text=texts.filter(str.strip),
    size=st.integers(8, 64),
    share=st.floats(0, 1),
    kind=st.sampled_from([0, 1]),
)
def test_the_windows_are_those_of_the_tokenizer(
    text: str, size: int, share: float, kind: int
) -> None:
    tokenizer = TOKENIZERS[kind]
    overlap = max(1, round(share * (size - 2)))
    # A text that ends in the end-of-text token, which a row of ours has in any case.
    ended = text + tokenizer.eos_token
    expected = tokenizer(
        ended,
        truncation=True,
        max_length=size,
        stride=overlap,
        return_overflowing_tokens=True,
    )["input_ids"]
    rows = windows(tokenizer, ended, size, overlap)
    assert [row.input_ids.tolist() for row in rows] == expected
    # Put together, what is learned is the text: each token once and in order.
    learned = [int(token) for row in rows for token in row.labels if token != IGNORE]
    whole = tokenizer(ended)["input_ids"]
    assert learned == whole[1:]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_loss_is_the_sliding_window_of_the_perplexity_page(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Follows https://huggingface.co/docs/transformers/perplexity, whose stride is the step."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2)
    ).eval()
    size, overlap = 32, 20
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    whole = [*tokenizer(TEXT * 4)["input_ids"][len(begin) :], tokenizer.eos_token_id]
    room, stride = size - len(begin), size - len(begin) - overlap

    expected, scored, previous_end = 0.0, 0, 0
    with torch.no_grad():
        for begin_loc in range(0, len(whole), stride):
            end_loc = min(begin_loc + room, len(whole))
            trg_len = end_loc - previous_end
            input_ids = torch.tensor([begin + whole[begin_loc:end_loc]])
            target_ids = input_ids.clone()
            target_ids[:, :-trg_len] = -100
            logits = model(input_ids).logits[0, :-1]
            wanted = target_ids[0, 1:]
            expected += float(
                torch.nn.functional.cross_entropy(
                    logits, wanted, ignore_index=-100, reduction="sum"
                )
            )
            scored += int((wanted != -100).sum())
            previous_end = end_loc
            if end_loc == len(whole):
                break

        found, learned = 0.0, 0
        for row in windows(tokenizer, TEXT * 4, size, overlap):
            labels = torch.tensor(row.labels[None].astype("int64"))
            count = int((labels[:, 1:] != IGNORE).sum())
            loss = model(torch.tensor(row.input_ids[None].astype("int64")), labels=labels).loss
            found, learned = found + float(loss) * count, learned + count
    assert learned == scored == len(whole) - (0 if begin else 1)
    assert found == pytest.approx(expected, rel=1e-6)


def test_packed_windows_keep_their_context_and_are_learned_once(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": TEXT * n} for n in (1, 4, 9, 16)])
    documents = []
    for packing in (False, True):
        table = prepared(path, method="pretrain", max_length=48, overlap=16, packing=packing).train
        sequences = []
        for index in range(len(table)):
            start = 0
            for id_, length in zip(table[index]["ids"], table[index]["seq_lengths"], strict=True):
                ids = tuple(table[index]["input_ids"][start : start + length])
                labels = tuple(table[index]["labels"][start : start + length])
                sequences.append((id_, ids, labels))
                start += length
        documents.append(sorted(sequences))
    assert documents[0] == documents[1]
    assert len(documents[0]) > 10


@settings(max_examples=100, deadline=None)
@given(length=st.integers(1, 500), size=st.integers(8, 64), share=st.floats(0, 1))
def test_the_plan_counts_the_same_windows(length: int, size: int, share: float) -> None:
    overlap = round(share * (size - 2))
    bounds = window_bounds(length, size, overlap)
    lengths = window_lengths(float(length), size, overlap)
    assert len(lengths) == len(bounds)
    if overlap:
        assert lengths == [stop - start for start, stop in bounds]


def test_the_plan_counts_rows_and_tokens_of_long_texts(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": TEXT * 40}] * 3)
    shape = ModelShape("llama", 64, 64, 2, 2, 2, 32, 300, tied=True, context=128, linears={})
    stats = {}
    for overlap in (0, 64):
        job = make_job(path, method="pretrain", max_length=128, overlap=overlap)
        stats[overlap] = read_dataset_stats(job, shape)
    # Rows of 128 tokens that advance by 64 are twice as many.
    assert stats[0].train > 3 * 4
    assert stats[64].train == pytest.approx(2 * stats[0].train, rel=0.2)
    limited = make_job(path, method="pretrain", max_length=128, limit=1)
    assert read_dataset_stats(limited, shape).train == pytest.approx(stats[0].train / 3)


@pytest.mark.parametrize(
    ("method", "data", "fix"),
    [
        ("pretrain", {"overlap": 31}, "Set it to at most 30"),
        ("dpo", {"overlap": 8}, "only texts are cut"),
        ("pretrain", {"stride": 8}, "Did you mean overlap?"),
    ],
)
def test_an_overlap_without_effect_or_room_is_refused(
    method: str, data: dict[str, int], fix: str
) -> None:
    with pytest.raises(JobError, match=fix):
        make_job("x.jsonl", method=method, max_length=32, **data)
