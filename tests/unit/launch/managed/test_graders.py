"""Rewards of a job as a Lambda function, run in a Python that has no third-party package."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex
from pydantic import TypeAdapter

from emulator.botocore_schema import validation_errors
from launch.managed.graders.evaluator import evaluator_request
from launch.managed.graders.function import function_name, function_request
from launch.managed.graders.package import build_package
from launch.managed.graders.runtime import regex as stand_in
from launch.submission import Attempt, Submission
from planning.managed.packed_rewards import reward_problems
from tests.factories import write_jsonl
from tests.unit.launch.fake_accounts import platform
from tests.unit.launch.managed.conftest import NOVA_2, QWEN, ManagedAccount, submit_job
from training.config.rewards import Rewards
from training.data.schema.rows import PromptRow
from training.errors import JobError
from training.rewards.aggregate import CompositeReward

EVENTS = Path(__file__).with_name("grader_events")
REWARDS: list[dict[str, Any]] = [
    {"kind": "numeric_answer"},
    {"kind": "regex_count", "pattern": "#{4} ", "cap": 1.0, "weight": 0.5},
]
PORTABLE: list[dict[str, Any]] = [
    *REWARDS,
    {"kind": "choice"},
    {"kind": "contains", "texts": ["four", "4"]},
    {"kind": "length", "max_words": 3},
    {"kind": "repetition"},
]
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from lambda_function import lambda_handler
print(json.dumps(lambda_handler(json.load(sys.stdin), None)))
"""


def rewards(*sections: dict[str, Any]) -> Any:
    """Return the sections of rewards, parsed."""
    return TypeAdapter(Rewards).validate_python(list(sections))


def invoke(archive: bytes, event: Any, folder: Path) -> tuple[Any, str]:
    """Return what a function answers in a bare Python, and what it writes to standard error."""
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RUN, str(folder)],
        input=json.dumps(event),
        capture_output=True,
        text=True,
        check=False,
    )
    return (json.loads(ended.stdout) if ended.returncode == 0 else None), ended.stderr


@pytest.mark.parametrize("contract", ["list", "http"])
def test_answer_to_the_documented_event(tmp_path: Path, contract: Any) -> None:
    golden = json.loads((EVENTS / f"{contract}.json").read_text())
    package = build_package(rewards(*REWARDS), contract)
    answer, error = invoke(package.archive, golden["event"], tmp_path)
    assert not error
    if contract == "http":
        assert answer["statusCode"] == 200
        answer = json.loads(answer["body"])
    assert answer == golden["response"]


def test_scores_are_those_of_training(tmp_path: Path) -> None:
    answers = ["#### 4", "the answer is four four four four", "4", "(B) because", "", "#### 5 4"]
    prompt = [{"role": "user", "content": "What is 2 + 2?"}]
    event = [
        {
            "id": str(number),
            "messages": [*prompt, {"role": "assistant", "content": answer}],
            "metadata": {"reference_answer": "(B) 4"},
        }
        for number, answer in enumerate(answers)
    ]
    sections = rewards(*PORTABLE)
    found, error = invoke(build_package(sections, "list").archive, event, tmp_path)
    assert not error
    rows = [PromptRow(str(n), "What is 2 + 2?", "(B) 4", {}) for n in range(len(answers))]
    expected = CompositeReward.from_sections(sections, None).score([""] * 6, answers, rows)
    assert [one["aggregate_reward_score"] for one in found] == expected.total
    assert len(set(expected.total)) > 3


def test_reference_is_not_a_column_of_the_same_name(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "4"}]
    columns = {"ground_truth": "5", "reference_answer": "6"}
    event = [
        {"id": "a", "messages": messages, "reference_answer": "4", "metadata": {"level": 2}},
        {
            "id": "b",
            "messages": messages,
            "extra_info": columns,
            "reward_model": {"style": "rule", "ground_truth": "4"},
        },
        {"id": "c", "messages": messages, "metadata": {"reference_answer": 4, "ground_truth": "5"}},
    ]
    package = build_package(rewards({"kind": "numeric_answer"}), "list")
    found, error = invoke(package.archive, event, tmp_path)
    assert not error
    assert [one["aggregate_reward_score"] for one in found] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ([{"id": "7", "messages": [{"role": "user", "content": "4"}]}], "sample 7: messages must"),
        ("hello", "must be a list of samples"),
        (
            [{"id": "7", "messages": [{"role": "assistant", "content": "4"}]}],
            "finds no number in the reference",
        ),
    ],
)
def test_sample_that_cannot_be_scored_fails(tmp_path: Path, event: Any, reason: str) -> None:
    answer, error = invoke(build_package(rewards(*REWARDS), "list").archive, event, tmp_path)
    assert answer is None
    assert reason in error


def test_equal_rewards_make_equal_bytes() -> None:
    first = build_package(rewards(*REWARDS), "list")
    assert first.archive == build_package(rewards(*REWARDS), "list").archive
    assert first.sha256 != build_package(rewards(*REWARDS), "http").sha256
    names = zipfile.ZipFile(io.BytesIO(first.archive)).namelist()
    assert not [name for name in names if "torch" in name or name.startswith("training/config")]


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"kind": "code_tests"}, "no sandbox"),
        ({"kind": "json_schema", "schema": {"type": "object"}}, "it needs jsonschema"),
        ({"kind": "model", "source": "org/model"}, "weights of a reward model"),
        ({"kind": "judge", "judge": {"kind": "local", "source": "org/m"}}, "cost of the calls"),
    ],
)
def test_reward_that_a_function_cannot_compute(section: dict[str, Any], reason: str) -> None:
    sections = rewards({"kind": "length", "max_words": 9}, section)
    (problem,) = reward_problems(sections, is_public=True)
    assert problem.path == "method.reward.1"
    assert reason in problem.message
    assert "resources.grader, or use --target sagemaker" in problem.fix
    (problem,) = reward_problems(sections, is_public=False)
    assert "--target" not in problem.fix


@pytest.mark.parametrize(
    "pattern", [r"\d+", r"(?i)a.", r"^#{4} (\d)$", r"(a|b)+c", r"é\w", r"(?m)^x"]
)
def test_stand_in_counts_as_the_package(pattern: str) -> None:
    for text in ("12 3 #### 4", "#### 4", "ababc Ab É\u00e9s", "x\nx\ny", ""):
        ours = [m[0] for m in stand_in.compile(pattern).finditer(text, timeout=1)]
        theirs = regex.compile(pattern, regex.VERSION0).finditer(text, timeout=1)
        assert ours == [m[0] for m in theirs]
        assert ours == [m[0] for m in re.finditer(pattern, text)]


def test_stand_in_stops_a_pattern_that_backtracks() -> None:
    with pytest.raises(TimeoutError):
        stand_in.compile("(a+)+$").finditer("a" * 60 + "b", timeout=0.1)


def test_requests_are_valid() -> None:
    values = platform(
        **{
            "roles/grader": "arn:aws:iam::123456789012:role/temper-dev-grader",
            "training/grader-log-group": "/aws/lambda/temper-dev-graders",
        }
    )
    attempts = (Attempt("temper-dev-math-1"),)
    run = Submission(
        Path(), "math/1", "bedrock-customization", "dev", "anna", "2026-11-29", attempts
    )
    request = function_request(run, build_package(rewards(*REWARDS), "list"), values)
    assert validation_errors("lambda", "CreateFunction", request) == []
    assert request["FunctionName"].startswith("temper-dev-grader-")
    function = f"arn:aws:lambda:us-east-1:123456789012:function:{request['FunctionName']}"
    evaluator = evaluator_request("math/1", function, values)
    assert validation_errors("sagemaker", "ImportHubContent", evaluator) == []
    content = json.loads(json.loads(evaluator["HubContentDocument"])["JsonContent"])
    assert content == {"Reference": function, "EvaluatorType": "RewardFunction"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Return a file of questions with their answers."""
    rows = [{"prompt": f"What is {n} + 1?", "reference": str(n + 1)} for n in range(120)]
    return write_jsonl(tmp_path / "questions.jsonl", rows)


def grpo(job: Callable[..., Path], model: str, name: str, data: Path, **keys: Any) -> Path:
    """Return the file of a job of reinforcement fine-tuning."""
    method = {"kind": "grpo", "reward": keys.pop("reward", REWARDS)}
    return job(model, name, method=method, data__train=str(data), **keys)


def test_bedrock_calls_the_packed_rewards(
    managed: ManagedAccount, job: Callable[..., Path], questions: Path
) -> None:
    target = managed.bedrock_target
    keys = {"train__global_batch_size": 64}
    path = grpo(job, f"bedrock:{NOVA_2}", "reinforced", questions, **keys)
    submission, lines = submit_job(path, target)
    assert "scored by method.reward (numeric_answer, regex_count)" in "\n".join(lines)
    sent = target.find(submission.latest.name)
    assert sent is not None
    arn = sent["customizationConfig"]["rftConfig"]["graderConfig"]["lambdaGrader"]["lambdaArn"]
    functions = managed.session.client("lambda")
    code = functions.get_function(FunctionName=arn)["Configuration"]
    assert code["CodeSha256"] == build_package(rewards(*REWARDS), "list").sha256
    managed.clock.advance(400)
    assert target.status(submission).state == "not deployed"
    assert target.delete(submission) == []
    assert arn not in [one["FunctionArn"] for one in functions.list_functions()["Functions"]]


def test_nova_on_sagemaker_reads_messages_and_a_list_of_scores(
    managed: ManagedAccount, job: Callable[..., Path], questions: Path
) -> None:
    target = managed.serverless_target
    path = grpo(job, "jumpstart:nova-textgeneration-lite-v2", "nova", questions)
    submission, lines = submit_job(path, target)
    assert "as openai-prompts" in "\n".join(lines)
    name = function_name(submission.run, target.platform)
    code = managed.session.client("lambda").get_function(FunctionName=name)["Configuration"]
    assert code["CodeSha256"] == build_package(rewards(*REWARDS), "list").sha256
    end = time.monotonic() + 60
    while not target.status(submission).is_over:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert target.status(submission).state == "not deployed"


def test_serverless_has_an_evaluator_of_the_packed_rewards(
    managed: ManagedAccount, job: Callable[..., Path], questions: Path
) -> None:
    target = managed.serverless_target
    path = grpo(job, f"jumpstart:{QWEN}", "verified", questions)
    submission, _ = submit_job(path, target)
    sagemaker = managed.session.client("sagemaker")
    sent = sagemaker.describe_training_job(TrainingJobName=submission.latest.name)
    evaluator = sent["ServerlessJobConfig"]["EvaluatorArn"]
    assert re.fullmatch(
        r"arn:aws:sagemaker:[^:]+:\d+:hub-content/[^/]+/JsonDoc/[^/]+/[\d\.]+", evaluator
    )
    name = evaluator.split("/")[-2]
    target.stop(submission)
    assert target.delete(submission) == []
    with pytest.raises(sagemaker.exceptions.ResourceNotFound):
        sagemaker.describe_hub_content(
            HubName="temper-dev-graders", HubContentType="JsonDoc", HubContentName=name
        )


def test_rows_and_rewards_that_no_grader_can_score_are_refused(
    managed: ManagedAccount, job: Callable[..., Path], questions: Path
) -> None:
    with questions.open("a") as file:
        file.write(json.dumps({"prompt": "Who?", "reference": "unknown"}) + "\n")
    path = grpo(job, f"bedrock:{NOVA_2}", "unscored", questions, train__global_batch_size=64)
    with pytest.raises(JobError, match=r"questions.jsonl:121: reward numeric_answer finds no"):
        submit_job(path, managed.bedrock_target)
    reward = {"kind": "code_tests"}
    path = grpo(
        job, f"bedrock:{NOVA_2}", "coded", questions, reward=reward, train__global_batch_size=64
    )
    with pytest.raises(JobError, match=r"method.reward: cannot be packed as a Lambda function"):
        submit_job(path, managed.bedrock_target)
