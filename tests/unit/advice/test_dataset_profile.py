"""Kind and number of rows, and how answers relate to prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from advice.dataset_profile import SAMPLE_ROWS, DatasetProfile, profile_dataset
from advice.text_measures import compressed_bits_per_byte, count_words, distinct_sentences
from tests.factories import docstring_pairs, write_jsonl
from training.config.data import Source
from training.errors import DataError

FORMS: dict[str, dict[str, Any]] = {
    "text": {"text": "A river is a natural stream of water."},
    "answers": {"prompt": "What is a river?", "completion": "A stream of water."},
    "preferences": {"prompt": "What is a river?", "chosen": "A stream.", "rejected": "A cat."},
    "ratings": {"prompt": "What is a river?", "completion": "A cat.", "label": False},
    "prompts": {"prompt": "What is a river?"},
}


def profile(folder: Path, rows: list[Any], **options: Any) -> DatasetProfile:
    return profile_dataset(Source(source=str(write_jsonl(folder / "rows.jsonl", rows))), **options)


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str, tmp_path: Path) -> None:
    measured = profile(tmp_path, [FORMS[form]] * 3)
    assert (measured.form, measured.rows, measured.exact) == (form, 3, True)


def test_a_sample_is_drawn_from_all_rows(tmp_path: Path) -> None:
    """Sorted rows, such as one class after another, are not judged by the first."""
    rows = [
        {"prompt": f"question {number}", "completion": f"class {number // 250}"}
        for number in range(4 * SAMPLE_ROWS)
    ]
    measured = profile(tmp_path, rows)
    assert (measured.rows, len(measured.sample)) == (4 * SAMPLE_ROWS, SAMPLE_ROWS)
    assert measured.distinct_answers == pytest.approx(7 / SAMPLE_ROWS)
    assert profile(tmp_path, rows).texts == measured.texts
    assert profile(tmp_path, rows, limit=10).rows == 10


def test_grounding_is_the_share_of_words_in_the_prompt(tmp_path: Path) -> None:
    row = {
        "prompt": "The Danube flows through Vienna and Budapest.",
        "completion": "Vienna, Budapest, Ulm",
    }
    assert profile(tmp_path, [row] * 2).grounding == pytest.approx(2 / 3)


def test_reference_answers_of_prompts(tmp_path: Path) -> None:
    rows = [{"question": "1 + 1?", "answer": "#### 2"}] * 2
    measured = profile(tmp_path, rows, want="prompt")
    assert (measured.form, measured.verifiable) == ("prompts", True)


@pytest.mark.parametrize(
    ("answer", "verifiable"),
    [
        ("2 + 2 = 4\n#### 4", True),
        (r"so that x = \boxed{4}", True),
        ("## Heading\nFour.", False),
        ("4", False),
    ],
)
def test_answers_with_a_marked_result(answer: str, verifiable: bool, tmp_path: Path) -> None:
    measured = profile(tmp_path, [{"prompt": "2 + 2?", "completion": answer}] * 2)
    assert (measured.form, measured.verifiable) == ("answers", verifiable)


def test_share_of_questions(tmp_path: Path) -> None:
    prompts = ["What is a river?", "什么是河？", "ما هو النهر؟", "Write a sort function."]
    rows = [{"prompt": prompt, "completion": "A stream."} for prompt in prompts]
    assert profile(tmp_path, rows).questions == 0.75


def test_tool_calls_are_part_of_an_answer(tmp_path: Path) -> None:
    call = {"name": "forecast", "arguments": {"city": "Vienna"}}
    answer = {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}
    row = {
        "messages": [{"role": "user", "content": "Weather in Vienna?"}, answer],
        "tools": [{"function": {"name": "forecast", "parameters": {"city": {"type": "string"}}}}],
    }
    measured = profile(tmp_path, [row] * 2)
    assert measured.answer_chars > 30 and "Vienna" in measured.texts[0].splitlines()[1]


def test_columns_that_are_not_read(tmp_path: Path) -> None:
    row = {"text": "my card is lost", "category": "lost", "empty": None}
    assert profile(tmp_path, [row] * 2).unread == ("category",)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\n")
    with pytest.raises(DataError, match=r"no rows|empty"):
        profile_dataset(Source(source=str(path)))


def test_compression_ignores_what_repeats_across_rows() -> None:
    texts = [pair["completion"] for pair in docstring_pairs(60)]
    form = "The assistant answers in JSON with the keys name and value."
    with_form = [f"{form}\n{text}" for text in texts]
    assert distinct_sentences(with_form)[1:] == distinct_sentences(texts)[1:]
    assert 1.5 < compressed_bits_per_byte(texts) < 8
    assert compressed_bits_per_byte(["a" * 5000]) == 1.5


def test_words_and_punctuation_are_counted() -> None:
    assert count_words("Don't, he said.") == 7
