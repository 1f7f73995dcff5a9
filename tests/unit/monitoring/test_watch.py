"""`temper watch` as a whole: logs of an emulated endpoint, a model, its training set, a report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment.errors import DeployModelError
from monitoring.errors import LogError, WatchError
from monitoring.features import load_features
from monitoring.golden import compare_golden, server_ask
from temper.cli import main
from tests.factories import make_tiny_model, write_jsonl
from tests.fake_llm_server import FakeLlmServer, serving
from tests.unit.monitoring.records import captured, write_records
from tests.unit.monitoring.watched_run import NAME, TRAINING, WINDOW, Watched, watch


def test_traffic_like_the_training_set_is_no_alarm(
    watched: Watched, found: tuple[Path, int], tmp_path: Path
) -> None:
    reference = found[0] / "reference.npz"
    code, report = watch(
        watched.alike, tmp_path, "--model", str(watched.run), "--fail",
        "--reference", str(reference),
    )  # fmt: skip
    assert code == 0 and report["alarms"] == []
    assert [w["verdict"] for w in report["windows"]] == ["like the training set"] * 3
    assert report["training_rows"] == TRAINING
    assert not (tmp_path / "reference.npz").exists()


def test_a_shift_is_an_alarm_on_the_second_window(found: tuple[Path, int]) -> None:
    out, code = found
    assert code == 0  # without --fail
    report = json.loads((out / "report.json").read_text())
    first, second, third = report["windows"]
    assert (first["verdict"], first["alarm"]) == ("like the training set", False)
    assert (second["verdict"], second["alarm"]) == ("drifted", False)
    assert (third["verdict"], third["alarm"]) == ("drifted", True)
    flagged = {one["feature"] for one in third["features"] if one["flagged"]}
    assert flagged >= {"tokens", "language", "embedding", "refused answers", "repeated answers"}
    assert "empty answers" in flagged
    effects = {one["feature"]: one["effect"] for one in third["features"]}
    assert effects["refused answers"] == effects["repeated answers"] == 0.25
    assert report["alarms"] == ["drift"]
    (usage,) = report["usage"]
    tokens = usage["prompt_tokens"] + usage["answer_tokens"]
    assert usage["usd_per_1000_tokens"] == pytest.approx(1000 * 2 * 72 / tokens)


def test_the_page_says_what_has_changed(found: tuple[Path, int]) -> None:
    page = (found[0] / "report.html").read_text()
    assert "Alarm: drift" in page and "2026-11-04: what changed" in page
    assert "of the training set&#39;s answers, 25.0% here" in page
    assert NAME not in page and "http" not in page.replace("http-equiv", "")


def test_hard_cases_are_masked_prompts(found: tuple[Path, int]) -> None:
    cases = [json.loads(line) for line in (found[0] / "cases.jsonl").read_text().splitlines()]
    reasons = {reason for case in cases for reason in case["reasons"]}
    assert {"refused", "repeats itself", "empty"} <= reasons
    refused = next(case for case in cases if "refused" in case["reasons"])
    assert "[PERSON_1]" in refused["served_answer"] and "[EMAIL_1]" in refused["served_answer"]
    assert len({case["prompt"] for case in cases}) == len(cases)


@pytest.mark.slow
def test_a_preparation_reads_hard_cases(found: tuple[Path, int], tmp_path: Path) -> None:
    job = {
        "name": "next",
        "prepare": {
            "sources": [{"source": str(found[0] / "cases.jsonl"), "shape": "prompt"}],
            "output": str(tmp_path / "next"),
        },
    }
    (tmp_path / "prepare.yaml").write_text(json.dumps(job))
    assert main(["prepare", str(tmp_path / "prepare.yaml")]) == 0


def test_features_of_the_training_set_hold_no_order_of_tokens(found: tuple[Path, int]) -> None:
    features, info = load_features(found[0] / "reference.npz")
    assert len(features) == info.rows == TRAINING and info.digest
    assert all((features.ids_of(row)[1:] >= features.ids_of(row)[:-1]).all() for row in range(9))
    part = features.take([3, 1])
    assert (part.ids_of(1) == features.ids_of(1)).all()


def test_metrics_are_those_of_the_newest_window(
    watched: Watched, found: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = watch(
        watched.shifted, tmp_path, "--model", str(watched.run), "--metrics", "--fail",
        "--reference", str(found[0] / "reference.npz"), "--namespace", "temper-dev",
    )  # fmt: skip
    assert code == 4
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines() if x.startswith("{")]
    window, adapter = lines
    (directive,) = window["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "temper-dev" and directive["Dimensions"] == [["Deployment"]]
    assert {m["Name"] for m in directive["Metrics"]} <= window.keys()
    assert (window["Drifted"], window["DriftAlarm"], window["Calls"]) == (1, 1, WINDOW)
    assert window["EffectRefusedAnswers"] == 0.25
    assert adapter["Adapter"] == "assistant" and adapter["AdapterCalls"] == WINDOW


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[tuple[FakeLlmServer, Path]]:
    with serving() as server:
        path = tmp_path / "judge.yaml"
        section = {"kind": "openai", "model": "j", "url": server.url}
        path.write_text(json.dumps({"rubric": "It is right.", "judge": section}))
        yield server, path


def test_lower_ratings_than_the_registered_ones_are_an_alarm(
    watched: Watched, found: tuple[Path, int], judge: tuple[FakeLlmServer, Path], tmp_path: Path
) -> None:
    server, path = judge
    server.reply = lambda messages: (
        200,
        "[[7]]" if "What is" in messages[-1]["content"] else "[[1]]",
    )
    _, report = watch(
        watched.shifted, tmp_path / "out", "--model", str(watched.run), "--judge", str(path),
        "--judged", "16", "--reference", str(found[0] / "reference.npz"),
    )  # fmt: skip
    ratings = [window["rating"] for window in report["windows"]]
    assert ratings[0]["mean"] == 7.0 and not ratings[0]["worse"]
    assert ratings[2]["mean"] == 1.0 and ratings[2]["worse"]
    assert ratings[2]["ewma"] == pytest.approx(7 - 6 * (1 - 0.8**2))
    assert report["baseline"]["name"] == "quality.qa.judge_rating"
    assert report["alarms"] == ["drift", "quality"]
    assert "Judged sample" in (tmp_path / "out/report.html").read_text()
    cases = (tmp_path / "out/cases.jsonl").read_text()
    assert "low rating" in cases


def test_no_registered_baseline_is_said_before_the_model_is_loaded(
    watched: Watched,
    judge: tuple[FakeLlmServer, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitoring.watch.ServedModelMeasure", pytest.fail)
    code = main([
        "watch", str(watched.alike), "--model", str(watched.folder / "tiny"),
        "--reference", str(watched.rows), "--judge", str(judge[1]),
    ])  # fmt: skip
    assert code == WatchError.exit_code
    assert "has no registered baseline" in capsys.readouterr().err


def test_a_bad_file_of_golden_prompts_is_said_before_the_model_is_loaded(
    watched: Watched,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitoring.watch.ServedModelMeasure", pytest.fail)
    golden = write_jsonl(tmp_path / "golden.jsonl", [{"text": "a"}])
    code, message = refusal(
        capsys, watched.alike, "--model", str(watched.run), "--out", str(tmp_path / "out"),
        "--golden", str(golden), "--url", "http://127.0.0.1:9/v1",
    )  # fmt: skip
    assert code == 3 and "golden.jsonl" in message


def refusal(
    capsys: pytest.CaptureFixture[str], log: Path | str, *arguments: str
) -> tuple[int, str]:
    code = main(["watch", str(log), *arguments])
    return code, capsys.readouterr().err


def test_two_weeks_without_traffic(
    watched: Watched, found: tuple[Path, int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines = watched.alike.read_text().splitlines()
    later = [captured("What is len?", "x", 24 * 17 + n / 60) for n in range(5)]
    log = write_records(tmp_path / "a.jsonl", [*map(json.loads, lines), *later])
    _, report = watch(
        log, tmp_path / "out", "--model", str(watched.run),
        "--reference", str(found[0] / "reference.npz"),
    )  # fmt: skip
    verdicts = [window["verdict"] for window in report["windows"]]
    assert verdicts == [*["like the training set"] * 3, *["no calls"] * 14, "too few calls"]
    assert report["notes"][0].startswith("no calls from 2026-11-05 00:00 to 2026-11-19 00:00 UTC")
    code, message = refusal(
        capsys, watched.alike, "--model", str(watched.run), "--since", "2026-11-20"
    )
    assert code == LogError.exit_code
    assert "the newest of 120 is of 2026-11-04 08:00 UTC" in message


def test_a_fast_clock_a_small_sample_and_a_cut_record_are_one_note_each(
    watched: Watched, found: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = watched.alike.read_text().splitlines()
    ahead = [json.dumps(captured("What is len?", "x", 24 * 36500)) for _ in range(3)]
    log = tmp_path / "a.jsonl"
    log.write_text("\n".join([*lines, lines[0][:200], *ahead]) + "\n")
    _, report = watch(
        log, tmp_path / "out", "--model", str(watched.run), "--usd-per-hour", "2",
        "--logged-share", "1%", "--reference", str(found[0] / "reference.npz"),
    )  # fmt: skip
    assert [window["calls"] for window in report["windows"]] == [40, 40, 40]
    fast, cut, sample = report["notes"]
    assert fast.startswith("3 calls are dated in the future, up to 2126-") and "clock" in fast
    assert cut.startswith("lines that cannot be used: 1 (a.jsonl, line 121: not JSON")
    assert sample.startswith("1% of the calls are logged")
    (usage,) = report["usage"]
    tokens = usage["prompt_tokens"] + usage["answer_tokens"]
    assert usage["usd_per_1000_tokens"] == pytest.approx(1000 * 2 * 72 * 0.01 / tokens)
    capsys.readouterr()
    log.write_text("\n".join(ahead) + "\n")
    code, message = refusal(capsys, log, "--model", str(watched.run))
    assert code == LogError.exit_code and "3 calls are dated in the future" in message
    code, message = refusal(capsys, log, "--model", str(watched.run), "--logged-share", "120%")
    assert code == WatchError.exit_code and "--logged-share 120%: write the share" in message
    few = write_records(tmp_path / "few.jsonl", [captured("a", "b") for _ in range(9)])
    _, message = refusal(
        capsys, few, "--model", str(watched.run), "--logged-share", "1%",
        "--reference", str(found[0] / "reference.npz"), "--out", str(tmp_path / "few"),
    )  # fmt: skip
    assert "largest has 9" in message and "log more than 1% of the calls" in message


def test_mixed_adapters_need_a_choice(
    watched: Watched, found: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [captured("What is len?", "x", 8, model="other") for _ in range(3)]
    lines = [*map(json.loads, watched.alike.read_text().splitlines()), *other]
    log = write_records(tmp_path / "a.jsonl", lines)
    _, message = refusal(capsys, log, "--model", str(watched.run))
    assert "calls of 2 models or adapters: assistant 120, other 3" in message
    _, message = refusal(capsys, log, "--model", str(watched.run), "--adapter", "absent")
    assert "no call of 'absent'" in message
    _, report = watch(
        log, tmp_path / "out", "--model", str(watched.run), "--adapter", "assistant",
        "--reference", str(found[0] / "reference.npz"),
    )  # fmt: skip
    assert [one["model"] for one in report["usage"]] == ["assistant", "other"]


def test_all_wrong_options_are_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = refusal(
        capsys, "absent", "--window", "soon", "--alarm", "3/2", "--since", "yesterday",
        "--usd-per-1000", "1", "--usd-per-hour", "1", "--judge", "absent.yaml", "--measured", "5",
        "--golden", "absent.jsonl", "--most-cut", "0",
    )  # fmt: skip
    assert code == WatchError.exit_code
    for text in (
        *("--window soon", "--alarm 3/2", "--since yesterday", "--usd-per-1000 1:"),
        *("--judge absent.yaml", "--measured 5", "--golden absent.jsonl", "--most-cut 0"),
    ):
        assert text in message


def test_what_is_missing_is_said_in_one_message_each(
    watched: Watched, found: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, reference = str(watched.folder / "tiny"), found[0] / "reference.npz"
    few = write_records(tmp_path / "few.jsonl", [captured("a", "b") for _ in range(9)])
    other = tmp_path / "other"
    make_tiny_model(other, num_hidden_layers=1)
    broken = tmp_path / "broken.npz"
    broken.write_text("{}")
    for arguments, expected in (
        (("assistant",), "assistant: there is no such file or folder"),
        ((str(watched.alike),), "the model that serves is not known"),
        ((str(watched.alike), "--model", tiny), "does not say what it was trained on"),
        ((str(watched.alike), "--model", tiny, "--reference", str(broken)), "no file of features"),
        (
            (str(watched.alike), "--model", str(other), "--reference", str(reference)),
            "was measured by",
        ),
        ((str(few), "--model", str(watched.run)), "no window of 1d has 30 calls"),
    ):
        code, message = refusal(capsys, *arguments, "--out", str(tmp_path / "out"))
        assert code in (2, 3) and expected in message, message
        assert "Traceback" not in message


def test_golden_prompts_that_differ_are_an_alarm(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n}?", "tokens": ["a", "b"], "log_probs": [-0.5, -1.0]}
            for n in range(4)]  # fmt: skip
    golden = write_jsonl(tmp_path / "golden.jsonl", rows)
    answers = {"tokens": ["a", "b"], "token_logprobs": [-0.52, -0.97]}

    def ask(body: Any) -> dict[str, Any]:
        changed = {"tokens": ["a", "c"]} if "3" in body["prompt"] else {}
        return {"choices": [{"logprobs": {**answers, **changed}}]}

    report = compare_golden(golden, ask)
    assert (report.agreed, report.of, report.passed) == (3, 4, False)
    assert report.differences == ("line 4: token 2 is 'c', not 'b'",)
    report = compare_golden(golden, lambda body: {"choices": [{"logprobs": answers}]})
    assert report.passed and report.agreed == 4


def test_golden_prompts_of_a_server_without_log_probabilities_are_texts(tmp_path: Path) -> None:
    message = {"role": "user", "content": "a"}
    rows = [{"messages": [message], "text": text} for text in ("yes", "no")]
    golden = write_jsonl(tmp_path / "golden.jsonl", rows)
    with serving() as server:
        server.reply = lambda messages: (200, "yes")
        report = compare_golden(golden, server_ask(server.url))
    assert (report.agreed, report.of) == (1, 2)
    assert report.differences == ("line 2: from character 1 on, the text is 'yes', not 'no'",)


def test_a_server_without_an_answer_is_one_message(tmp_path: Path) -> None:
    golden = write_jsonl(tmp_path / "golden.jsonl", [{"prompt": "a"}])
    with pytest.raises(DeployModelError, match="line 1: the response has no answer"):
        compare_golden(golden, lambda body: {"choices": []})
