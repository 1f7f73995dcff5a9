"""Report of preference methods and of reinforcement learning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.html_text import Page, read_page
from tests.unit.report.run_folders import JOB, step, write_run
from training.report.page import write_report
from training.report.run_data import read_run_data
from training.report.warnings import collect_warnings


def job(kind: str) -> str:
    return JOB.replace("method: {kind: sft}", f"method: {{kind: {kind}}}")


def sides(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    return {"before": {"validation": before}, "after": {"validation": after}}


def report(folder: Path) -> Page:
    write_report(folder)
    return read_page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_reward_model_is_told_by_its_accuracy(tmp_path: Path) -> None:
    before = {"loss": 0.75, "accuracy": 0.34, "calibration_error": 0.2, "rows": 70.0}
    after = {"loss": 0.63, "accuracy": 0.74, "calibration_error": 0.1, "rows": 70.0}
    page = report(write_run(tmp_path / "r", job=job("reward"), evaluation=sides(before, after)))
    assert page.headings[0] == "Held-out accuracy rose from 34 % to 74 %"
    assert "Reward model with LoRA of tiny-llama" in page.text
    assert "accuracy on pairs 0.340 0.740" in page.text
    assert "calibration error 0.200 0.100" in page.text
    assert page.html.count('class="n better"') == 3
    assert "nats per token" not in page.text


def rewarded(number: int, **ends: tuple[float, float]) -> list[dict[str, Any]]:
    """Return steps whose metrics go from one value to another in a straight line."""
    return [
        step(
            n + 1,
            0.0,
            **{name: a + (b - a) * n / (number - 1) for name, (a, b) in ends.items()},
        )
        for n in range(number)
    ]


def test_a_rewarded_run_is_told_by_its_reward(tmp_path: Path) -> None:
    rows = rewarded(20, reward=(0.4, 1.6), kl=(0.0, 6.0), ended=(0.9, 0.9))
    folder = write_run(tmp_path / "r", job=job("grpo"), rows=rows)
    told = [
        {
            "step": n,
            "held_out": False,
            "prompt": f"prompt {n}",
            "answer": f"answer {n}",
            "reward": n / 10,
            "kl": None,
            "ended": True,
        }
        for n in range(20)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    page = report(folder)
    assert page.headings[0].startswith(
        "Reward rose from 0.43 to 1.57, at a KL divergence of 5.8 nats"
    )
    assert "Answers during training" in page.headings
    for number in (0, 6, 13, 19):
        assert f"answer {number}" in page.text
    assert "Warnings" not in page.headings


HACKING = [
    ({"reward": (0.4, 2.0), "answer_tokens": (20.0, 60.0)}, "answers grew from 21 to 59 tokens"),
    ({"reward": (0.4, 2.0), "repetition": (0.02, 0.4)}, "repeated 4-grams in answers rose"),
    ({"reward": (0.4, 2.0), "ended": (0.9, 0.2)}, "fewer answers ended with EOS"),
    ({"reward": (0.4, 2.0), "entropy": (2.0, 0.1)}, "mode collapse"),
    ({"reward": (0.4, 2.0), "reward_judge": (0.6, 0.3)}, "the judge's score fell"),
]


@pytest.mark.parametrize(("ends", "said"), HACKING, ids=[said for _, said in HACKING])
def test_a_reward_that_is_gamed_is_pointed_out(
    tmp_path: Path, ends: dict[str, tuple[float, float]], said: str
) -> None:
    folder = write_run(tmp_path / "r", job=job("grpo"), rows=rewarded(20, **ends))
    (sentence,) = collect_warnings(read_run_data(folder))
    assert said in sentence
    page = report(folder)
    assert "Warnings" in page.headings
    # A reward that stayed where it was is gamed by nothing.
    still = {**ends, "reward": (0.4, 0.4)}
    quiet = write_run(tmp_path / "quiet", job=job("grpo"), rows=rewarded(20, **still))
    assert collect_warnings(read_run_data(quiet)) == []


def test_a_reward_that_only_watches_speaks_when_it_falls(tmp_path: Path) -> None:
    rewards = "[{kind: length, min_words: 9}, {kind: model, source: m, weight: 0}]"
    asked = JOB.replace("method: {kind: sft}", f"method: {{kind: ppo, reward: {rewards}}}")
    ends = {"reward": (0.4, 2.0), "reward_length": (0.4, 2.0)}
    for fell, said in ((0.1, True), (0.6, False)):
        rows = rewarded(20, **ends, reward_model=(0.6, fell))
        folder = write_run(tmp_path / str(fell), job=asked, rows=rows)
        found = collect_warnings(read_run_data(folder))
        assert [("model, which is monitored only" in one) for one in found] == [True] * said


def test_a_reward_that_tells_nothing_apart_is_pointed_out(tmp_path: Path) -> None:
    for name, ends, said in (("flat", (0.5, 0.5), 1), ("one", (0.5, 0.6), 0)):
        rows = rewarded(3, reward=ends, reward_std=(0.0, 0.0))
        found = collect_warnings(
            read_run_data(write_run(tmp_path / name, job=job("grpo"), rows=rows))
        )
        assert len(found) == said, found
    assert (
        "the same reward, 0.50, so the policy learned nothing"
        in collect_warnings(read_run_data(tmp_path / "flat"))[0]
    )


def test_a_distance_without_a_reward_is_no_frontier(tmp_path: Path) -> None:
    rows = rewarded(3, kl=(0.0, 0.2))
    page = report(write_run(tmp_path / "r", job=job("kto"), rows=rows))
    assert "Reward against KL" not in page.text


def test_a_reward_model_that_likes_length_is_pointed_out(tmp_path: Path) -> None:
    before = {"loss": 0.7, "longer_scored_higher": 0.5, "longer_was_chosen": 0.55}
    after = {"loss": 0.6, "longer_scored_higher": 0.8, "longer_was_chosen": 0.55}
    folder = write_run(tmp_path / "r", job=job("reward"), evaluation=sides(before, after))
    (sentence,) = collect_warnings(read_run_data(folder))
    assert "80 % of pairs; annotators preferred it in 55 %" in sentence


def test_chosen_answers_that_became_less_likely_are_pointed_out(tmp_path: Path) -> None:
    before = {"loss": 0.69, "margin": 0.0, "logp_chosen": -200.0, "logp_rejected": -200.0}
    after = {"loss": 0.5, "margin": 3.0, "logp_chosen": -220.0, "logp_rejected": -250.0}
    folder = write_run(tmp_path / "r", job=job("dpo"), evaluation=sides(before, after))
    (sentence,) = collect_warnings(read_run_data(folder))
    assert "less likely as well (log-probability −200.0 to −220.0)" in sentence or (
        "less likely as well (log-probability -200.0 to -220.0)" in sentence
    )


def test_answers_to_the_samples_on_the_way(tmp_path: Path) -> None:
    said = {"samples": [{"prompt": "p", "answer": "first"}]}
    evaluation = {"before": {**said}, "after": {"samples": [{"prompt": "p", "answer": "last"}]}}
    folder = write_run(tmp_path / "r", job=job("dpo"), evaluation=evaluation)
    looks = [{"step": n, "prompt": "p", "answer": f"look {n}"} for n in range(5, 100, 5)]
    (folder / "looks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in looks))
    page = report(folder)
    assert "During training" in page.text
    assert "look 95" in page.text
    assert page.html.count(">look ") == 5


def test_every_method_has_a_title(tmp_path: Path) -> None:
    for kind, title in (("simpo", "SimPO"), ("rloo", "RLOO"), ("pretrain", "Pre-training")):
        folder = write_run(tmp_path / kind, job=job(kind))
        assert title in report(folder).text


def test_kto_is_told_by_how_well_good_is_told_from_bad(tmp_path: Path) -> None:
    before = {"loss": 0.5, "auc": 0.5, "good_rows": 300.0, "bad_rows": 60.0, "rows": 360.0}
    after = {**before, "loss": 0.4, "auc": 0.62}
    page = report(write_run(tmp_path / "r", job=job("kto"), evaluation=sides(before, after)))
    assert "good above bad, share of all pairs of the two (AUC) 0.500 0.620" in page.text
    assert (
        page.headings[0] == "Held-out AUC of good answers over bad rose from 0.50 to 0.62 (+24 %)"
    )
    assert "Warnings" not in page.headings


def test_a_few_bad_answers_are_reported_with_their_number(tmp_path: Path) -> None:
    held = {"loss": 0.5, "margin": 0.0, "good_rows": 9.0, "bad_rows": 2.0, "rows": 11.0}
    folder = write_run(tmp_path / "r", job=job("kto"), evaluation=sides(held, held))
    assert [line.partition(",")[0] for line in collect_warnings(read_run_data(folder))] == [
        "Only 2 bad answers are held out", "Only 9 good answers are held out",
    ]  # fmt: skip


def test_what_was_not_above_zero_moves_by_a_difference(tmp_path: Path) -> None:
    before = {"loss": 0.69, "margin": -0.004, "mean_score": 0.0, "rows": 488.0}
    after = {"loss": 0.66, "margin": 0.171, "mean_score": 0.2, "rows": 488.0}
    page = report(write_run(tmp_path / "r", job=job("reward"), evaluation=sides(before, after)))
    assert "margin of chosen over rejected −0.004 0.171 +0.18" in page.text
    assert page.headings[0] == "Held-out margin rose from −0.004 to 0.171 (+0.18)"
    assert "mean score 0.000 0.200 +0.20" in page.text


def test_a_reward_model_that_likes_little_is_told_on(tmp_path: Path) -> None:
    held = {"loss": 0.6, "accuracy": 0.6, "length_correlation": -0.53, "rows": 488.0}
    folder = write_run(tmp_path / "r", job=job("reward"), evaluation=sides(held, held))
    (warning,) = collect_warnings(read_run_data(folder))
    assert warning.startswith("The reward model scores shorter answers higher (correlation −0.53)")
