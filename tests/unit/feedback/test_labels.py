"""Preference labels: read from three forms, judged, and cleaned."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from feedback.agreement import agreement
from feedback.analysis import analyze
from feedback.biases import longer_by_gap
from feedback.cleaning import clean_labels
from feedback.labels import Label
from feedback.parse_choice import parse_choice
from feedback.readers import read_labels
from safety.binomial import Proportion, at_most
from temper.cli import main
from tests.run_commands import read_jsonl
from training.errors import DataError


def label(who: str, choice: int | None, prompt: str = "p", **keys: Any) -> Label:
    return Label(
        f"l:{who}", prompt, keys.pop("first", "x"), keys.pop("second", "y"), choice, who, **keys
    )


def crowd(pairs: int, wrong: dict[str, float], seed: int = 0) -> list[Label]:
    """Return judgements of people who are wrong so often, sides shuffled for each of them."""
    rng = random.Random(seed)
    found = []
    for number in range(pairs):
        for who, share in wrong.items():
            good, bad = f"good {number}", f"bad {number}"
            said = bad if rng.random() < share else good
            sides = rng.sample((good, bad), 2)
            found.append(
                label(who, sides.index(said), f"p{number}", first=sides[0], second=sides[1])
            )
    return found


def findings(labels: list[Label]) -> Any:
    from feedback.annotators import annotator_statistics

    return clean_labels(labels, annotator_statistics(labels))


# --- reading -------------------------------------------------------------------------------------


def test_csv_and_json_lines_are_read_alike(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "answer_a": "x", "answer_b": "y", "choice": "A", "annotator": "one"},
        {"prompt": "p", "answer_a": "x", "answer_b": "y", "choice": "second", "annotator": "two"},
        {"prompt": "q", "answer_a": "x,\ny", "answer_b": "z", "choice": "tie", "annotator": "one"},
    ]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other = (read_labels([tmp_path / f"labels.{kind}"]).labels for kind in ("csv", "jsonl"))
    assert [x.choice for x in one] == [0, 1, None]
    assert [(x.prompt, x.first, x.choice, x.annotator) for x in one] == [
        (x.prompt, x.first, x.choice, x.annotator) for x in other
    ]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"choice": "b"}),
        json.dumps({"choice": {"a": False, "b": True}}),
        json.dumps({"choice": {"a": {"a": False}, "b": {"b": True}}}),
        {"choice": "b"},
    ],
)
def test_a_manifest_of_ground_truth_has_a_label_for_each_worker(
    tmp_path: Path, content: Any
) -> None:
    asked = {"prompt": "p", "answer_a": "x", "answer_b": "y", "topic": "t"}
    worker = {"workerId": "private.eu.1", "annotationData": {"content": content}}
    other = {"workerId": "private.eu.2", "annotationData": {"content": '{"choice": "a"}'}}
    line = {
        "source": json.dumps(asked),
        "preference": {"annotationsFromAllWorkers": [worker, other]},
        "preference-metadata": {"type": "groundtruth/custom", "human-annotated": "yes"},
    }
    path = tmp_path / "output.manifest"
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, **asked, "source": "s"}) + "\n")
    found = read_labels([path]).labels
    assert [(x.annotator, x.choice, x.topic) for x in found] == [
        ("private.eu.1", 1, "t"),
        ("private.eu.2", 0, "t"),
    ] * 2


def test_what_was_shown_first_is_what_the_choice_is_about(tmp_path: Path) -> None:
    row = {"prompt": "p", "a": "x", "b": "y", "choice": "a", "shown_first": "b", "gold": "a"}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    (found,) = read_labels([tmp_path / "l.jsonl"]).labels
    assert (found.first, found.second, found.choice, found.gold) == ("y", "x", 1, 1)


def test_plain_pairs_have_no_order(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "p"}], "chosen": "x", "rejected": "y"}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    (found,) = read_labels([tmp_path / "l.jsonl"]).labels
    assert (found.prompt, found.choice, found.ordered) == ("p", 0, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels found"),
        ("not json\n", "l.jsonl:1: not JSON"),
        ("[1]\n", "a line is an object"),
        (
            '{"prompt": "p", "a": "x", "b": "y"}\n',
            "line 1: no choice (accepted columns: choice",
        ),
        ('{"prompt": "p", "a": "x", "b": "", "choice": "a"}\n', "the second answer is empty"),
        (
            '{"prompt": "p", "reply": "x", "choice": "a", "who": "w"}\n',
            "output_1, conversation_a). Columns found: prompt, reply, choice, who. Name",
        ),
        ('{"prompt": "p", "a": "x", "b": "y", "choice": 0}\n' * 9, "9 labels cannot be used"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        read_labels([tmp_path / "l.jsonl"])


@pytest.mark.parametrize(
    ("written", "choice"),
    [
        *((word, 0) for word in ("A", "answer a", "Answer A", "model_a", "Response 1", "left", 1)),
        *((word, 1) for word in ("b", "option B", "assistant-2", "second", "Answer B is better")),
        *((word, None) for word in ("tie", "Tie (bothbad)", "both bad", "neither", "equal")),
        ("one answer", 0),
        ("another", 1),
        ({"label": "Answer B"}, 1),
        ({"labels": ["a"]}, 0),
        ({"a": {"on": True}, "b": {"on": False}}, 0),
    ],
)
def test_a_choice_is_read_however_it_is_spelled(written: Any, choice: int | None) -> None:
    assert parse_choice(written, "one answer", "another") == choice


@pytest.mark.parametrize("written", [0, 3, "", "yes", {"a": True, "b": True}, {}, "Answer C"])
def test_a_choice_that_could_be_either_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="the choice"):
        parse_choice(written, "one answer", "another")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "\ufeffprompt;answer a;answer b;choice\nGröße?;x;y;b\n"),
        ("l.tsv", "prompt\tanswer a\tanswer b\tchoice\nGröße?\tx\ty\tb\n"),
        ("l.json", '[{"prompt": "Größe?", "a": "x", "b": "y", "choice": "b"}]'),
        ("l.jsonl", '\ufeff{"prompt": "Größe?", "a": "x", "b": "y", "choice": "b"}'),
    ],
)
def test_files_are_read_as_tools_write_them(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (found,) = read_labels([tmp_path / name]).labels
    assert (found.prompt, found.first, found.second, found.choice) == ("Größe?", "x", "y", 1)


def test_columns_may_have_names_of_their_own(tmp_path: Path) -> None:
    row = {"prompt": "p", "a": "x", "b": "y", "choice": "old", "overall": "b", "by": 7}
    path = tmp_path / "l.jsonl"
    path.write_text(json.dumps(row))
    (found,) = read_labels([path], {"choice": "overall", "annotator": "by"}).labels
    assert (found.choice, found.annotator) == (1, "7")
    with pytest.raises(DataError, match="there is no column 'none' for choice"):
        read_labels([path], {"choice": "none"})


USER, GOOD, BAD = (
    {"role": who, "content": said}
    for who, said in (("user", "q"), ("assistant", "good"), ("assistant", "bad"))
)


@pytest.mark.parametrize(
    ("row", "given"),
    [
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, ([USER], [GOOD], [BAD])),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, ([USER], [GOOD], [BAD])),
        (
            {"conversation_a": [USER, BAD], "conversation_b": [USER, GOOD], "winner": "model_b"},
            ([USER], [GOOD], [BAD]),
        ),
        (
            {"chosen": json.dumps([USER, GOOD]), "rejected": json.dumps([USER, BAD])},
            ([USER], [GOOD], [BAD]),
        ),
        (
            {
                "chosen": "\n\nHuman: q\n\nAssistant: good",
                "rejected": "\n\nHuman: q\n\nAssistant: b",
            },
            ("\n\nHuman: q\n\nAssistant:", " good", " b"),
        ),
    ],
)
def test_conversations_come_out_as_they_went_in(tmp_path: Path, row: Any, given: Any) -> None:
    """Without a prompt, it is what both sides begin with."""
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    read = read_labels([tmp_path / "l.jsonl"])
    (kept,) = analyze(read.labels).cleaned.rows
    assert (kept["prompt"], kept["chosen"], kept["rejected"]) == given


def test_conversations_that_begin_differently_are_no_pair(tmp_path: Path) -> None:
    row = {"chosen": [USER, GOOD], "rejected": [{**USER, "content": "r"}, BAD]}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="do not begin with the same conversation"):
        read_labels([tmp_path / "l.jsonl"])


def test_an_instruction_keeps_its_input(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "Shorten", "input": "A long one", "answer1": "x", "answer2": "y"},
        {"instruction": "", "input": "A long one", "response1": "x", "response2": "y"},
        {"instruction": "Shorten", "input": None, "output_1": "x", "output_2": "y"},
        {"prompt": "Shorten", "input": "no part of it", "candidate_a": "x", "candidate_b": "y"},
    ]
    lines = "".join(json.dumps({**row, "choice": 2.0}) + "\n" for row in rows)
    (tmp_path / "l.jsonl").write_text(lines)
    found = read_labels([tmp_path / "l.jsonl"]).labels
    asked = ["Shorten\n\nA long one", "A long one", "Shorten", "Shorten"]
    assert [(x.prompt, x.first, x.choice) for x in found] == [(text, "x", 1) for text in asked]


def test_empty_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "a": "x", "b": b, "choice": "a"} for b in ("y", "", "  ", None)]
    rows.append({"prompt": "", "a": "x", "b": "y", "choice": "a"})
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_labels([tmp_path / "l.jsonl"])
    assert len(read.labels) == 1
    said = ["the second answer is empty"] * 3 + ["the prompt is empty"]
    assert [why for _, why in read.unlabelled] == said


def test_conversations_beside_two_answers_are_read(tmp_path: Path) -> None:
    asked = [{"from": "human", "value": "مرحبا 👋"}]
    sides = {name: {"from": "gpt", "value": name} for name in ("chosen", "rejected")}
    (tmp_path / "l.json").write_text(json.dumps([{"conversations": asked, **sides}]))
    (found,) = read_labels([tmp_path / "l.json"]).labels
    assert (found.prompt, found.first, found.second) == ("مرحبا 👋", "chosen", "rejected")


def test_what_nobody_has_judged_is_counted(tmp_path: Path) -> None:
    shown = {"prompt": "p", "answer_a": "x", "answer_b": "y"}
    failed = {"choice-metadata": {"failure-reason": "ClientError: no worker"}}
    lines = [{**shown, "choice": "a"}, {**shown, "choice": ""}, {**shown, **failed}]
    path = tmp_path / "l.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_labels([path])
    assert len(read.labels) == 1
    dropped = analyze(read.labels, read.unlabelled).cleaned.dropped
    assert [(row["why"], row["origin"]) for row in dropped] == [
        ("no choice was made", ["l.jsonl:2"]),
        ("the labelling job failed on it: ClientError: no worker", ["l.jsonl:3"]),
    ]
    path.write_text(json.dumps({**shown, "choice": None}))
    with pytest.raises(DataError, match="no labels found: no choice was made"):
        read_labels([path])


def test_a_worker_without_a_choice_does_not_silence_the_others(tmp_path: Path) -> None:
    said = [{}, {"choice": "b"}, {"choice": "a"}]
    workers = [
        {"workerId": f"w{n}", "annotationData": {"content": json.dumps({"choice": None, **one})}}
        for n, one in enumerate(said)
    ]
    line: dict[str, Any] = {"source": "1", "prompt": "p", "answer_a": "x", "answer_b": "y"}
    line |= {"job": {"annotationsFromAllWorkers": workers}, "job-metadata": {}}
    (tmp_path / "m.manifest").write_text(json.dumps(line) + "\n")
    read = read_labels([tmp_path / "m.manifest"])
    assert [(x.annotator, x.choice) for x in read.labels] == [("w1", 1), ("w2", 0)]
    assert read.unlabelled == [("m.manifest:1/1", "no choice was made")]


def test_a_manifest_may_call_its_label_anything(tmp_path: Path) -> None:
    """A worker's field of another name; and a built-in task, which keeps what they came to."""
    shown = {"prompt": "p", "answer_a": "x", "answer_b": "y"}
    said = {"crowd-classifier": {"label": "Answer B"}, "remark": "hard"}
    worker = {"workerId": "w", "annotationData": {"content": json.dumps(said)}}
    custom = {**shown, "my job.v2": {"annotationsFromAllWorkers": [worker]}}
    built_in = {
        "source": json.dumps(shown),
        "my-label": 1,
        "my-label-metadata": {"class-name": "b", "confidence": 0.8},
    }
    for line, who in ((custom, "w"), (built_in, "")):
        path = tmp_path / "output.manifest"
        path.write_text(json.dumps(line))
        (found,) = read_labels([path]).labels
        assert (found.prompt, found.choice, found.annotator) == ("p", 1, who)
    broken = {"workerId": "w", "annotationData": {"content": "{not json"}}
    path.write_text(json.dumps({**shown, "l": {"annotationsFromAllWorkers": [broken]}}))
    with pytest.raises(DataError, match="line 1: a worker's answer cannot be read"):
        read_labels([path])


# --- agreement -----------------------------------------------------------------------------------


def test_measures_of_agreement_by_hand() -> None:
    """Two people, ten pairs, the same on eight: 4 yes-yes, 4 no-no, 2 apart."""
    votes = [(0, 0)] * 4 + [(1, 1)] * 4 + [(0, 1), (1, 0)]
    labels = [
        label(who, vote, f"p{number}")
        for number, pair in enumerate(votes)
        for who, vote in zip("ab", pair, strict=True)
    ]
    found = agreement(labels)
    assert found.raw == pytest.approx(0.8)
    # Both say each half of the time: chance is one half, and (0.8 - 0.5) / 0.5 = 0.6.
    assert found.cohen == pytest.approx(0.6)
    assert found.fleiss == pytest.approx(0.6)
    # Krippendorff: 1 - (n - 1) * disagreements / (n_a * n_b) = 1 - 19 * 2 * 2 / (2 * 10 * 10).
    assert found.alpha == pytest.approx(1 - 19 * 4 / 200)
    assert (found.pairs, found.fleiss_pairs, found.fleiss_raters) == (10, 10, 2)


def test_chance_agreement_is_nothing_and_one_person_says_nothing_of_it() -> None:
    found = agreement(crowd(400, {"a": 0.5, "b": 0.5, "c": 0.5}))
    assert abs(found.alpha or 1) < 0.1
    assert abs(found.fleiss or 1) < 0.1
    assert agreement(crowd(20, {"a": 0.0})).alpha is None


# --- annotators ----------------------------------------------------------------------------------


def test_who_is_flags_is_found_and_nobody_else() -> None:
    labels = crowd(60, {"a": 0.1, "b": 0.1, "c": 0.12, "d": 0.1, "liar": 0.9})
    flagged = {one.name: one.flags for one in analyze(labels).annotators if one.flags}
    assert list(flagged) == ["liar"]
    assert "agrees with the others on" in flagged["liar"][0]


def test_a_small_gap_among_many_judgements_is_not_flags() -> None:
    labels = crowd(3000, {"a": 0.03, "b": 0.03, "c": 0.07})
    assert not [one for one in analyze(labels).annotators if one.flags]


def test_who_always_takes_the_first_is_found() -> None:
    labels = crowd(40, {"a": 0.1, "b": 0.1, "c": 0.1})
    labels += [label("lazy", 0, x.prompt, first=x.first, second=x.second) for x in labels[::3]]
    (lazy,) = [one for one in analyze(labels).annotators if one.name == "lazy"]
    assert any("shown first 100%" in why for why in lazy.flags)
    assert lazy.weight == 0


def test_calibration_items_are_not_learned_from() -> None:
    labels = [label(who, n % 2, f"p{n}", gold=n % 2) for n in range(10) for who in "abc"]
    labels += [label("wrong", 1 - n % 2, f"p{n}", gold=n % 2) for n in range(10)]
    found = analyze([*labels, label("a", 0, "real")])
    (wrong,) = [one for one in found.annotators if one.name == "wrong"]
    assert any("calibration items" in why for why in wrong.flags)
    assert [row["prompt"] for row in found.cleaned.rows] == ["real"]


def test_sides_that_were_not_shuffled_are_nobodys_fault() -> None:
    """All who judge well then choose the same side: the set says so, and they are kept."""
    labels = [label(who, 0, f"p{n}") for n in range(24) for who in "abc"]
    found = analyze(labels)
    assert not any(one.flags for one in found.annotators)
    assert any("Shuffle the order" in warning for warning in found.warnings)
    assert len(found.cleaned.rows) == 24


def test_who_is_not_named_is_another_person_each_time() -> None:
    votes = (0, 0, 1)
    labels = [
        Label(f"l:{n}/{place}", f"p{n}", "x", "y", choice)
        for n in range(30)
        for place, choice in enumerate(votes)
    ]
    found = analyze(labels)
    assert (found.agreement.pairs, found.agreement.cohen) == (30, None)
    assert found.agreement.raw == pytest.approx(1 / 3)
    assert (found.cleaned.contradictions, len(found.cleaned.rows)) == (0, 30)
    assert {tuple(row["votes"]) for row in found.cleaned.rows} == {(2, 3)}
    assert not any(one.flags for one in found.annotators)
    assert "unnamed annotators" in found.annotator_count


def test_judgements_that_are_all_the_same_are_told_from_none() -> None:
    ties = analyze([label(who, None, f"p{n}") for n in range(9) for who in "ab"])
    assert any("comparable judgements are the same" in w for w in ties.warnings)
    assert any("No pair is left to train on" in w for w in ties.warnings)
    alone = analyze([label("a", 0, f"p{n}") for n in range(9)])
    assert any("No pair was judged by two annotators" in w for w in alone.warnings)


def test_length_is_looked_at_by_how_far_answers_are_apart() -> None:
    def longer_by(words: int, number: int) -> list[Label]:
        second = "y" + " y" * words
        return [label("a", 1, f"{words} {n}", second=second) for n in range(number)]

    assert longer_by_gap(longer_by(3, 20)) == []
    parts = longer_by_gap([*longer_by(1, 10), *longer_by(2, 2), *longer_by(5, 8)])
    assert [(words, share.of) for words, share in parts] == [
        ("1 word apart", 10),
        ("2 to 5 words apart", 10),
    ]


def test_tails_and_intervals() -> None:
    assert at_most(2, 10, 0.5) == pytest.approx((1 + 10 + 45) / 1024)
    assert at_most(10, 10, 0.5) == pytest.approx(1.0)
    assert Proportion(5, 10).interval == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert not Proportion(0, 0).excludes(0.5)


# --- cleaning ------------------------------------------------------------------------------------


def test_votes_decide_and_weigh() -> None:
    found = findings([label("a", 0), label("b", 0), label("c", 1)])
    (row,) = found.rows
    assert (row["chosen"], row["rejected"], row["votes"]) == ("x", "y", [2, 3])
    assert 0 < row["weight"] < 1
    turned = label("c", 1, first="y", second="x")
    assert findings([label("a", 0), label("b", 0), turned]).rows[0]["weight"] == 1


def test_even_votes_and_ties_are_left_out() -> None:
    found = findings([label("a", 0), label("b", 1), label("a", None, "q"), label("b", None, "q")])
    assert found.rows == []
    assert {row["why"] for row in found.dropped} == {"its votes are even, or for neither answer"}


def test_contradictions_and_repetitions_are_counted() -> None:
    found = findings(
        [
            *(label("a", choice, "p") for choice in (0, 1)),
            *(label("a", 0, " P ") for _ in range(1)),
            *(label("b", 0, "q") for _ in range(3)),
            label("b", 0, "same", first="One two", second="one  TWO"),
        ]
    )
    assert (found.contradictions, found.duplicates) == (1, 2)
    assert [row["prompt"] for row in found.rows] == ["q"]
    whys = [row["why"] for row in found.dropped]
    assert "annotator a judged the pair both ways" in whys
    assert "both answers are the same" in whys


def test_circles_are_broken_at_their_closest_decision() -> None:
    def beats(winner: str, loser: str, *voters: str) -> list[Label]:
        return [label(who, 0, first=winner, second=loser) for who in voters]

    labels = [
        *beats("rock", "scissors", "a", "b", "c"),
        *beats("scissors", "paper", "a", "b", "c"),
        *beats("paper", "rock", "a", "b"),
        *beats("rock", "paper", "c"),
    ]
    found = findings(labels)
    assert found.cycles == [["paper", "rock", "scissors"]]
    assert {(row["chosen"], row["rejected"]) for row in found.rows} == {
        ("rock", "scissors"),
        ("scissors", "paper"),
    }


# --- the whole -----------------------------------------------------------------------------------


def test_the_command_writes_a_report_and_a_set_that_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = crowd(50, {"a": 0.1, "b": 0.1, "c": 0.1, "<b>d</b>": 0.85})
    rows = [
        {
            "prompt": x.prompt,
            "answer_a": x.first,
            "answer_b": x.second,
            "choice": "ab"[x.choice or 0],
            "annotator": x.annotator,
            "topic": "cooking" if int(x.prompt[1:]) % 2 else "law",
        }
        for x in labels
    ]
    data, out = tmp_path / "labels.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["feedback", str(data), "--out", str(out), "--least-alpha", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "200 labels of 50 pairs by 4 annotators" in said
    pairs = read_jsonl(out / "pairs.jsonl")
    assert sum(row["chosen"].startswith("good") for row in pairs) / len(pairs) > 0.95
    assert {row["topic"] for row in pairs} == {"cooking", "law"}
    dropped = read_jsonl(out / "dropped.jsonl")
    assert sum("<b>d</b>" in row["why"] for row in dropped) == 50
    page = (out / "report.html").read_text()
    assert "&lt;b&gt;d&lt;/b&gt;" in page and "<b>d</b>" not in page
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == len(pairs)
    # One who says the opposite hides that all others agree.
    assert report["agreement_in_line"]["alpha"] > 0.4 > report["agreement"]["alpha"]
    assert main(["feedback", str(data), "--out", str(out), "--least-alpha", "0.99"]) == 4
    assert main(["feedback", str(tmp_path / "none.csv")]) == 3
    assert "there is no such file" in capsys.readouterr().err


def test_what_was_cleaned_is_read_by_training(tmp_path: Path) -> None:
    from training.config.data import Source
    from training.data.readers.records import SourceRecord
    from training.data.schema.rows import PreferenceRow
    from training.data.schema.schema_reader import SchemaReader

    (row,) = findings([label("a", 0), label("b", 0)]).rows
    source = Source(source="pairs.jsonl", columns={"margin": "weight"})
    read = SchemaReader(source, "preference").read(SourceRecord("pairs.jsonl:1", row))
    assert read == PreferenceRow("pairs.jsonl:1", "p", "x", "y", 1.0)
