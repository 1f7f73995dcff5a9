"""`temper compare`: a win rate, and pairs for people that `temper feedback` reads back."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.comparison import uncertainty
from evaluation.results import read_results
from feedback.readers import read_labels
from temper.cli import main
from tests.factories import make_tiny_model, write_jsonl
from tests.fake_llm_server import serving


def _verdicts(*orders: tuple[str | None, str | None], preference: str | None) -> dict[str, Any]:
    verdicts = [{"model_first": one, "other_first": other} for one, other in orders]
    return {"verdicts": verdicts, "preference": preference}


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        (_verdicts(("model", "model"), preference="model"), None),
        (_verdicts(("tie", "tie"), preference="tie"), "tie"),
        (_verdicts(("model", "other"), preference="tie"), "the verdict depends on the order"),
        (
            _verdicts(("model", "model"), ("other", "other"), preference="tie"),
            "judges disagree",
        ),
        (_verdicts((None, "model"), preference=None), "no usable judgement"),
    ],
)
def test_what_makes_a_verdict_uncertain(detail: dict[str, Any], reason: str | None) -> None:
    assert uncertainty(detail) == reason


def test_two_models_are_compared_and_people_get_the_uncertain_pairs_first(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_tiny_model(tmp_path / "other", num_hidden_layers=1)
    prompts = [{"text": f"Tell me about {n}"} for n in range(6)]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)

    def reply(messages: list[dict[str, Any]]) -> tuple[int, str]:
        text = messages[0]["content"]
        if "about 1" in text or "about 4" in text:
            return 200, "[[A]]"
        a, b = (text.partition(f"<answer_{name}>")[2].partition("<")[0] for name in "ab")
        # Some order of the answers that does not depend on which is shown first.
        return 200, "[[A]]" if zlib.crc32(a.encode()) > zlib.crc32(b.encode()) else "[[B]]"

    out = tmp_path / "out"
    with serving() as server:
        server.reply = reply
        judge = {"kind": "openai", "url": server.url, "model": "judge-1"}
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
        arguments = [
            *("compare", tiny, str(other), "--prompts", str(tmp_path / "prompts.jsonl")),
            *("--judge", str(tmp_path / "judge.yaml"), "--out", str(out), "--plain"),
            *("--max-new-tokens", "6"),
        ]
        assert main(arguments) != 0
        assert "name that of the prompts with --column" in capsys.readouterr().err
        assert main([*arguments, "--column", "text"]) == 0
    task = read_results(out).tasks["answers"]
    assert task.metrics["win_rate"].items == 6
    assert task.facts["judge"]["flips"]["count"] == 2
    console = capsys.readouterr().out
    assert "flips: 33.3% of 6" in console
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert {pair["prompt"][-1] for pair in pairs[:2]} == {"1", "4"}
    assert [pair["why"] for pair in pairs] == ["the verdict depends on the order"] * 2 + [""] * 4
    # Neither model is always first.
    items = [json.loads(line) for line in (out / "items/answers.jsonl").read_text().splitlines()]
    # A column's name alone is its value.
    assert [item["prompt"] for item in items] == [row["text"] for row in prompts]
    own = {item["prompt"]: item["answers"][0] for item in items}
    assert {pair["answer_a"] == own[pair["prompt"]] for pair in pairs} == {True, False}
    # People fill in the choice, and the file is read as labels.
    pairs[0]["choice"] = "a"
    write_jsonl(out / "labelled.jsonl", pairs)
    read = read_labels([out / "labelled.jsonl"])
    assert (len(read.labels), len(read.unlabelled)) == (1, 5)
    assert read.labels[0].first == pairs[0]["answer_a"]
    assert len((out / "random_pairs.jsonl").read_text().splitlines()) == 6


def test_all_problems_of_a_judge_file_are_listed(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "Hi"}])
    judge = {"rubrik": "Be good.", "judge": {"kind": "openai", "model": "x"}}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
    arguments = ["--prompts", str(tmp_path / "prompts.jsonl"), "--judge"]
    assert main(["compare", tiny, tiny, *arguments, str(tmp_path / "judge.yaml")]) == 2
    err = capsys.readouterr().err
    assert "rubrik" in err
    assert "url" in err
