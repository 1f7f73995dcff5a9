"""Rankings of several answers: weights of their pairs, what is read, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planning.dataset_stats import _sides
from tests.unit.data.data_factories import sentencepiece_like
from training.config.data import Source
from training.data.collators.pairs import PairCollator
from training.data.readers.records import SourceRecord
from training.data.schema.rankings import ranked_pairs
from training.data.schema.rows import RankingRow, RowError
from training.data.schema.schema_reader import SchemaReader
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import Dropped
from training.errors import DataError

ROW = {"prompt": "the cat", "answers": ["sat", "ran", "fish", "dog"], "ranks": [2, 1, 3, 4]}


def read(values: dict[str, Any], **source: Any) -> RankingRow:
    row = SchemaReader(Source(source="x", **source), "preference").read(SourceRecord("x:1", values))
    assert isinstance(row, RankingRow)
    return row


def row_tokenizer(*, weighs_pairs: bool = True) -> RowTokenizer:
    return RowTokenizer.from_tokenizer(
        sentencepiece_like(None),
        chat_template=None,
        want="preference",
        max_length=64,
        weighs_pairs=weighs_pairs,
    )


def test_a_ranking_of_k_answers_is_k_choose_2_pairs_that_count_as_one() -> None:
    pairs = ranked_pairs({"": [2, 1, 3, 4]}, {})
    assert {pair[:2] for pair in pairs} == {(1, 0), (1, 2), (1, 3), (0, 2), (0, 3), (2, 3)}
    assert [pair.weight for pair in pairs] == pytest.approx([1 / 6] * 6)


def test_tied_answers_make_no_pair() -> None:
    pairs = ranked_pairs({"": [1, 1, 2]}, {})
    assert sorted(pairs) == [(0, 2, 0.5), (1, 2, 0.5)]
    assert ranked_pairs({"": [1, 1, 1]}, {}) == []


def test_dimensions_that_disagree_make_a_soft_label() -> None:
    pairs = ranked_pairs({"help": [1, 2], "harm": [2, 1]}, {"help": 3, "harm": 1})
    assert sorted(pairs) == [(0, 1, 0.75), (1, 0, 0.25)]
    equal = ranked_pairs({"help": [1, 2], "harm": [1, 2]}, {})
    assert equal == [(0, 1, 1.0)]


def test_a_dimension_that_was_not_judged_leaves_its_share_to_the_others() -> None:
    row = {**ROW, "ranks": {"help": [1, 2, 3, 4], "harm": None}}
    read_row = read(row, dimensions={"help": 1, "harm": 5})
    assert sum(pair.weight for pair in read_row.pairs) == pytest.approx(1)


def test_answers_and_ranks_may_be_json_in_a_table() -> None:
    text = {**ROW, "answers": json.dumps(ROW["answers"]), "ranks": json.dumps(ROW["ranks"])}
    assert read(text) == read(ROW)


@pytest.mark.parametrize(
    ("changed", "source", "message"),
    [
        ({"ranks": [1, 2]}, {}, "ranks has 2 ranks for 4 answers"),
        ({"ranks": [1, 2, 3, "x"]}, {}, "holds a rank that is not a number: x"),
        ({"ranks": 3}, {}, "ranks is not a list of ranks: 3"),
        ({"answers": ["a"], "ranks": [1]}, {}, "holds 1 answers; a ranking needs two or more"),
        ({"answers": ["a", "b", "a "], "ranks": [1, 2, 3]}, {}, r"answers\[0\] and answers\[2\]"),
        ({"answers": "a b"}, {}, "answers is not a list of answers"),
        ({"ranks": {"help": [1, 2, 3, 4]}}, {"dimensions": {"harm": 1}}, "no weight for help"),
        ({}, {"dimensions": {"harm": 1}}, "ranks has no dimensions"),
    ],
)
def test_invalid_rankings_are_refused_with_a_reason(
    changed: dict[str, Any], source: dict[str, Any], message: str
) -> None:
    with pytest.raises(RowError, match=message):
        read({**ROW, **changed}, **source)


def test_each_pair_becomes_a_row_with_its_weight() -> None:
    tokens = row_tokenizer()
    (rows,) = tokens([read(ROW)])
    assert isinstance(rows, list)
    assert [row.id for row in rows] == [f"x:1#{n}" for n in range(1, 7)]
    columns = [
        {
            "input_ids": row.input_ids,
            "labels": row.labels,
            "seq_lengths": row.lengths,
            "about": row.about,
            "ids": [row.id],
        }
        for row in rows
    ]
    batch = PairCollator(0)(columns)
    assert batch["weight"].tolist() == pytest.approx([1 / 6] * 6)
    pair = {"prompt": "the cat", "chosen": "ran", "rejected": "sat"}
    as_pair = SchemaReader(Source(source="x"), "preference").read(SourceRecord("x:1", pair))
    ((same,),) = tokens([as_pair])
    assert any((same.input_ids.tolist() == row.input_ids.tolist()) for row in rows)


def test_a_ranking_of_equals_is_dropped_with_its_reason() -> None:
    (outcome,) = row_tokenizer()([read({**ROW, "ranks": [1, 1, 1, 1]})])
    assert outcome == Dropped("x:1", "all answers have the same rank")


def test_methods_that_do_not_weigh_pairs_refuse_rankings() -> None:
    with pytest.raises(DataError, match=r"Only a reward model \(method: \{kind: reward\}\)"):
        row_tokenizer(weighs_pairs=False)([read(ROW)])
    with pytest.raises(DataError, match="this is a set of ranked answers"):
        SchemaReader(Source(source="x"), "dialogue").read(SourceRecord("x:1", ROW))


def test_weights_of_dimensions_without_a_ranking_are_refused() -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    reader = SchemaReader(Source(source="x", dimensions={"help": 1}), "preference")
    with pytest.raises(DataError, match=r"data\.train\.dimensions weighs the ranks of answers"):
        reader.read(SourceRecord("x:1", pair))


def test_a_plan_counts_the_pairs_of_a_ranking() -> None:
    reader = SchemaReader(Source(source="x"), "preference")
    assert len(_sides(reader, SourceRecord("x:1", ROW))) == 6


def test_a_prompt_of_a_ranking_can_be_answered(tmp_path: Path) -> None:
    row = SchemaReader(Source(source="x"), "prompt").read(SourceRecord("x:1", ROW))
    assert getattr(row, "prompt", None) == "the cat"
