"""Short questions are found with some words changed; other questions of their pattern are not."""

from __future__ import annotations

import random

import pytest

from preparation.rows import PreparedRow
from preparation.steps.decontaminate.items import BenchmarkItem
from preparation.steps.decontaminate.section import Decontamination
from preparation.words import words
from training.data.contamination.edits import LENGTHS, EditIndex
from training.data.contamination.passages import passages

TOPICS = (
    "asthma", "anemia", "gout", "measles", "scurvy", "rabies", "eczema", "glaucoma", "influenza",
    "migraine", "pneumonia", "psoriasis", "rickets", "scabies", "tetanus", "tuberculosis",
)  # fmt: skip
QUESTIONS = [
    "Which river did the Romans cross before they founded Cologne?",
    "Why do cats always land on their feet after a fall?",
    "Who painted the ceiling of the chapel in the palace at night?",
    "How long does light travel from the sun to the planet Neptune?",
    "What metal melts in the palm of your hand on a warm day?",
    "Where do eels of European rivers go to lay their eggs?",
    "Which bird sleeps on the wing above the ocean for months?",
    "What did the sailors of Magellan eat when the biscuits were gone?",
]


@pytest.fixture(scope="module")
def rule() -> Decontamination:
    items = [BenchmarkItem(str(n), text, "") for n, text in enumerate(QUESTIONS)]
    return Decontamination(items, similarity=None)


def row(*texts: str) -> PreparedRow:
    messages = [{"role": "user", "content": text} for text in texts]
    return PreparedRow("a:1", "a", "messages", {"messages": messages})


@pytest.mark.parametrize(
    "text",
    [
        "Which river did the Romans cross before they cross Cologne?",
        "Why do cats land always on feet after a fall?",
        "what metal melst in the plam of your hand on a warm day",
        "Answer in a word. Which bird sleeps on the wing above the sea for months? Be brief.",
        "Question: How long does light travel from sun to the planet Neptune?\nAnswer:",
    ],
    ids=["word replaced", "words left out and moved", "misspelled", "in a prompt", "after a label"],
)
def test_an_edited_question_is_found(rule: Decontamination, text: str) -> None:
    result = rule.examine(row("Hello!", text))
    assert result.reasons == ("benchmark_edited",)
    assert 0.55 <= float(result.tags["benchmark_similarity"]) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "Which river did the Vikings cross before they plundered Paris?",
        "Why do dogs always turn around before they lie on a bed?",
        "What metal is used in the frame of your bicycle on a race day?",
        "Cats land on their feet.",
        "Who painted the door of the shed?",
    ],
)
def test_another_question_of_the_pattern_passes(rule: Decontamination, text: str) -> None:
    assert rule.examine(row(text)).reasons == ()


def test_edits_by_chance_are_found_in_nearly_all_questions(rule: Decontamination) -> None:
    draw, found, tried = random.Random(7), 0, 0
    for text in QUESTIONS * 25:
        parts = text.split()
        parts[draw.randrange(len(parts))] = draw.choice(parts)
        tried += 1
        found += bool(rule.examine(row(" ".join(parts))).reasons)
    assert found / tried >= 0.98


def test_questions_that_differ_in_a_word_are_not_duplicates() -> None:
    held_out, patterns = TOPICS[:4], ("What are the first symptoms of {} in a child?",)
    items = [pattern.format(topic) for topic in TOPICS[4:] for pattern in patterns]
    items += [f"What are the early symptoms of {topic} in a child?" for topic in TOPICS[4:]]
    index = EditIndex([words(text) for text in items])
    sure = [
        text
        for topic in (*held_out, *TOPICS[4:])
        for text in (f"What are the late symptoms of {topic} in a child?",)
        if any(match.sure for match in index.find(words(text)))
    ]
    assert sure == []


def test_a_word_of_the_question_in_place_of_another_makes_no_other_question() -> None:
    pattern = "What are the {} symptoms of {} in a child?"
    items = [pattern.format(word, topic) for word in ("first", "early") for topic in TOPICS]
    items += [f"What are the {word} treatments for {topic}?" for word in ("best", "new")
              for topic in TOPICS]  # fmt: skip
    index = EditIndex([words(text) for text in items])

    def sure(text: str) -> bool:
        return any(match.sure for match in index.find(words(text)))

    assert sure("What are the are symptoms of asthma in a child?")
    assert not sure("What are the late symptoms of asthma in a child?")


def test_a_question_with_one_rare_word_is_found_if_nothing_is_new() -> None:
    items = [f"What is the cause of {topic}?" for topic in TOPICS]
    items += [f"How is {topic} treated?" for topic in TOPICS]
    index = EditIndex([words(text) for text in items])
    (match,) = index.find(words("What the the cause of gout?"))
    assert match.sure and items[match.item] == "What is the cause of gout?"
    assert not any(match.sure for match in index.find(words("What is the price of gout?")))
    assert not any(match.sure for match in index.find(words("What is the cause of the cause?")))


def test_an_unsure_copy_counts_with_its_answer() -> None:
    answer = "It begins with a cough at night and a tight chest"
    items = [
        BenchmarkItem(f"{word} {topic}", f"What are the {word} symptoms of {topic} in a child?",
                      answer if topic == "asthma" else "")
        for topic in TOPICS for word in ("first", "early") if (word, topic) != ("early", "asthma")
    ]  # fmt: skip
    rule = Decontamination(items, similarity=None)
    question = "What are the early symptoms of asthma in a child?"
    assert rule.examine(row(question, "Nobody knows.")).reasons == ()
    edited = answer.replace("night", "noon")
    assert rule.examine(row(question, edited)).reasons == ("benchmark_edited",)


def test_passages_are_sentences_paragraphs_and_the_text() -> None:
    text = "One two three. Four five?\nSix seven.\n\nEight nine ten."
    found = [" ".join(passage) for passage in passages(text, words, range(2, 11))]
    assert found == [
        "one two three", "four five", "six seven", "one two three four five six seven",
        "eight nine ten", "one two three four five six seven eight nine ten",
    ]  # fmt: skip


def test_items_of_other_lengths_and_without_weight_are_not_searched() -> None:
    long = " ".join(f"word{n}" for n in range(LENGTHS.stop))
    index = EditIndex([words(text) for text in ("Is it so?", "what is that of which", long)])
    assert index.find(words("Is it so?")) == []
    assert index.find(words("what is that of which")) == []
    assert index.find(words(long)) == []
