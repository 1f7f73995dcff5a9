"""Scores of generated answers, compared with independent computations."""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import BertConfig, BertModel, BertTokenizerFast

from evaluation.config.scores import (
    BertScore,
    Bleu,
    Chrf,
    Classification,
    Contains,
    Instructions,
    JsonSchema,
    NumericAnswer,
    PassAtK,
    Refusal,
    Rouge,
)
from evaluation.scores.instructions.rules import RULES
from evaluation.scores.instructions.text_units import count_sentences, is_language
from evaluation.scores.pass_at_k import pass_at_k
from tests.unit.evaluation.scores.test_text_scores import answered, scored, values
from training.errors import DataError

HERE = Path(__file__).parent


def test_contains() -> None:
    items = answered("It is PARIS.", "paris"), answered("Rome", "paris")
    assert values(Contains(kind="contains"), *items) == [1.0, 0.0]
    assert values(Contains(kind="contains", ignore_case=False), *items) == [0.0, 0.0]


def test_numeric_answer_reads_numbers_as_the_reward_does() -> None:
    section = NumericAnswer(kind="numeric_answer")
    items = answered("so 1,200 apples", "#### 1200"), answered(["5", "6"], "6"), answered("-", "1")
    assert values(section, *items) == [1.0, 0.5, 0.0]


def test_numeric_answer_refuses_a_target_without_a_number() -> None:
    with pytest.raises(DataError, match=r"target 'none' of item 0"):
        scored(NumericAnswer(kind="numeric_answer"), answered("5", "none"))


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [  # F-measures of rouge-score 0.1.2 (use_stemmer=False)
        (
            "The quick brown fox jumps over the lazy dog.",
            "A quick brown dog jumps over a lazy fox",
            [0.777778, 0.25, 0.555556],
        ),
        (
            "In 2019, revenue rose 12.5% to $3m.",
            "Revenue rose by 12.5 % in 2019 to 3 million dollars.",
            [0.736842, 0.352941, 0.526316],
        ),
        ("yes", "no", [0.0, 0.0, 0.0]),
        ("the the the cat", "the cat the", [0.857143, 0.4, 0.571429]),
    ],
)
def test_rouge_equals_rouge_score(answer: str, target: str, expected: list[float]) -> None:
    metrics = scored(Rouge(kind="rouge"), answered(answer, target)).metrics
    assert [metric.name for metric in metrics] == ["rouge1", "rouge2", "rougeL"]
    assert [metric.value for metric in metrics] == pytest.approx(expected, abs=1e-6)


_TRANSLATIONS = [
    answered("The cat sat on the mat.", "The cat is sitting on the mat.", "A cat sat on a mat."),
    answered(
        "It rains in Spain mainly on the plain.",
        "The rain in Spain stays mainly in the plain.",
        "Rain falls in Spain.",
    ),
    answered("Hello world", "Hello, world!", "Hello there"),
]


def test_bleu_and_chrf_of_the_sums_equal_sacrebleu_of_the_corpus() -> None:
    # sacrebleu 2.6.0: corpus_bleu, corpus_chrf, and corpus_chrf with word_order=2.
    expected = [33.988712692861625, 54.015158126121335, 52.804791596992786]
    sections = Bleu(kind="bleu"), Chrf(kind="chrf"), Chrf(kind="chrf", word_order=2)
    metrics = [scored(section, *_TRANSLATIONS).metrics[0] for section in sections]
    assert [metric.value for metric in metrics] == pytest.approx(expected, abs=1e-9)
    assert all(metric.kind == "corpus" for metric in metrics)


def test_corpus_metric_values_many_resamples_at_once() -> None:
    metric = scored(Bleu(kind="bleu"), *_TRANSLATIONS).metrics[0]
    weights = np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3]])
    resampled = metric.value_of(weights @ metric.statistics)
    assert resampled[0] == metric.value
    assert resampled[1] == metric.subset(np.array([0, 0, 1])).value


def test_pass_at_k_estimate_equals_the_share_of_subsets() -> None:
    for samples, correct, k in [(5, 2, 1), (5, 2, 3), (6, 0, 2), (4, 4, 4), (7, 3, 5)]:
        programs = [True] * correct + [False] * (samples - correct)
        subsets = list(itertools.combinations(programs, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(samples, correct, k) == pytest.approx(expected)


def test_pass_at_k_runs_programs_that_continue_the_prompt() -> None:
    section = PassAtK(kind="pass_at_k", k=(1, 2), continues="prompt", processes=1)
    fields = {
        "prompt": "def double(x):\n",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n",
        "entry_point": "double",
    }
    outcome = scored(section, answered(["    return 2 * x\n", "    return x\n"], **fields))
    assert {metric.name: metric.value for metric in outcome.metrics} == {"pass@1": 0.5, "pass@2": 1}
    assert outcome.details == ({"passed": [True, False]},)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ({"k": (2,)}, {"test": ["assert True"]}, "has 1 answers. Write samples: 2"),
        ({}, {"test_list": ["assert True"]}, "no tests in the column 'test'"),
    ],
)
def test_pass_at_k_names_what_is_missing(
    section: dict[str, object], fields: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        scored(PassAtK.model_validate({"kind": "pass_at_k", **section}), answered("x", **fields))


def test_json_is_parsed_and_validated() -> None:
    schema = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}
    section = JsonSchema.model_validate({"kind": "json_schema", "schema": schema})
    texts = ['```json\n{"age": 3}\n```', '{"age": "x"}', "age: 3"]
    outcome = scored(section, *(answered(text) for text in texts))
    assert [m.statistics[:, 0].tolist() for m in outcome.metrics] == [[1, 1, 0], [1, 0, 0]]
    assert outcome.details[1] == {"errors": ["$.age: 'x' is not of type 'integer'"]}


def test_json_schema_of_each_item() -> None:
    section = JsonSchema(kind="json_schema", schema_column="schema")
    items = [answered("3", schema='{"type": "integer"}'), answered("3", schema={"type": "string"})]
    assert scored(section, *items).metrics[1].statistics[:, 0].tolist() == [1, 0]
    with pytest.raises(DataError, match="no JSON Schema in the column 'schema'"):
        scored(section, answered("3", schema="not JSON"))


@pytest.mark.parametrize("given", [{}, {"schema": {}, "schema_column": "s"}])
def test_json_schema_needs_one_schema(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either schema"):
        JsonSchema.model_validate({"kind": "json_schema", **given})


def test_refusal_counts_refusals_and_the_items_treated_rightly() -> None:
    section = Refusal(kind="refusal", expected="harmful")
    items = [
        answered("I'm sorry, but I cannot help.", harmful=True),
        answered("I'm sorry, but I cannot help.", harmful="no"),
        answered("Here you are.", harmful=0),
        answered("", harmful="false"),
    ]
    rate, right = scored(section, *items).metrics
    assert (rate.value, right.value) == (0.5, 0.5)
    with pytest.raises(DataError, match="'maybe' in the column 'harmful'"):
        scored(section, answered("x", harmful="maybe"))


def test_classification_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = ["ham", "spam", "not spam"]
    truth = rng.choice(labels, 200).tolist()
    guess = [t if rng.random() < 0.6 else str(rng.choice([*labels, "?"])) for t in truth]
    items = [answered(f"It is: {g}", t) for g, t in zip(guess, truth, strict=True)]
    outcome = scored(Classification(kind="classification"), *items)
    found = {metric.name: metric.value for metric in outcome.metrics}
    named = ["(none)" if g == "?" else g for g in guess]
    assert found["accuracy"] == pytest.approx(np.mean(np.array(named) == np.array(truth)))
    assert found["macro_f1"] == pytest.approx(
        f1_score(truth, named, labels=labels, average="macro")
    )
    assert found["mcc"] == pytest.approx(matthews_corrcoef(truth, named))


def test_classification_takes_no_answer_with_two_labels() -> None:
    section = Classification(kind="classification", labels=("yes", "no"))
    texts = ["Yes!", "yes or no", "I do not know", "The answer is no."]
    outcome = scored(section, *(answered(text, "yes") for text in texts))
    predicted = [detail["predicted"] for detail in outcome.details]
    assert predicted == [["yes"], ["(none)"], ["(none)"], ["no"]]


def test_classification_refuses_a_target_that_is_not_a_label() -> None:
    with pytest.raises(DataError, match="target 'maybe', which is none of the labels yes, no"):
        scored(Classification(kind="classification", labels=("yes", "no")), answered("", "maybe"))


# Answers and decisions of lm-eval 0.4.13 (lm_eval/tasks/ifeval) on rows of IFEval, of the
# instructions that count neither sentences nor tokens and identify no language.
_IFEVAL = [
    json.loads(line)
    for line in (HERE / "ifeval_by_lm_eval.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_instructions_are_decided_as_by_lm_eval() -> None:
    items = [
        answered(r["answer"], instruction_id_list=[r["id"]], kwargs=[r["arguments"]])
        for r in _IFEVAL
    ]
    metrics = {m.name: m for m in scored(Instructions(kind="instructions"), *items).metrics}
    for mode in ("strict", "loose"):
        decided = metrics[f"prompt_{mode}"].statistics[:, 0].astype(bool).tolist()
        assert decided == [row[mode] for row in _IFEVAL]
    assert len({row["id"] for row in _IFEVAL}) == 20


@pytest.mark.parametrize(
    ("instruction", "arguments", "follows", "does_not"),
    [
        (
            "length_constraints:number_sentences",
            {"relation": "less than", "num_sentences": 3},
            "Mr. Smith paid $3.50. He left.",
            "One. Two. Three.",
        ),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "at least", "capital_frequency": 2},
            "This is VERY VERY odd.",
            "This is VERY odd.",
        ),
        ("language:response_language", {"language": "de"}, "Das Wetter ist schön.", "Fine day."),
        ("change_case:english_capital", {}, "THE WEATHER IS FINE TODAY.", "The weather."),
        ("change_case:english_lowercase", {}, "the weather is fine today.", "The weather."),
    ],
)
def test_instructions_that_count_or_identify(
    instruction: str, arguments: dict[str, object], follows: str, does_not: str
) -> None:
    fields = {"instruction_id_list": [instruction], "kwargs": [arguments]}
    items = answered(follows, **fields), answered(does_not, **fields)
    strict = scored(Instructions(kind="instructions"), *items).metrics[0]
    assert strict.statistics[:, 0].tolist() == [1, 0]


def test_every_instruction_is_tested() -> None:
    counted = {
        "length_constraints:number_sentences", "change_case:capital_word_frequency",
        "language:response_language", "change_case:english_capital",
        "change_case:english_lowercase",
    }  # fmt: skip
    assert counted | {row["id"] for row in _IFEVAL} == set(RULES)


def test_empty_answer_follows_nothing_and_several_instructions_are_counted_apart() -> None:
    fields = {
        "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
        "kwargs": [{}, {"num_words": None}],
    }
    items = answered("", **fields), answered("no title", **fields)
    prompt, instruction, *_ = scored(Instructions(kind="instructions"), *items).metrics
    assert prompt.value == 0
    assert instruction.value == 0.25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no list of instructions in the column 'instruction_id_list'"),
        ({"instruction_id_list": ["a:b"], "kwargs": [{}]}, "unknown instructions a:b"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "one dictionary per"),
        (
            {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{}]},
            "do not fit",
        ),
    ],
)
def test_instructions_name_what_is_wrong(fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scored(Instructions(kind="instructions"), answered("text", **fields))


def test_text_units() -> None:
    assert count_sentences("Dr. Jones, e.g., lives in Paris. He is old! Is he?") == 3
    assert is_language("12345 67", "en")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    text = "the a cat dog sat was sitting on mat ran once upon time there girl . , !"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*text.split(), *(f"##{c}" for c in string.ascii_lowercase), *string.ascii_lowercase]
    vocabulary = list(dict.fromkeys([*special, *pieces]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_bert_score_equals_the_package(bert: str) -> None:
    items = [
        answered("The cat sat on the mat.", "A cat was sitting on a mat."),
        answered("A dog ran.", "Once upon a time there was a girl."),
    ]
    outcome = scored(BertScore(kind="bert_score", model=bert, layer=2), *items)
    # bert-score 0.3.13 with num_layers=2 on the same model: precision, recall, F1.
    expected = [[0.627115, 0.673656], [0.649057, 0.603544], [0.637897, 0.636675]]
    for metric, row in zip(outcome.metrics, expected, strict=True):
        assert metric.statistics[:, 0].tolist() == pytest.approx(row, abs=1e-5)
