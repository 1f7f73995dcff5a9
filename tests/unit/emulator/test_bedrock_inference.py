"""Emulated Bedrock's inference and batches, answered by processes that serve the models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.bedrock_account import BedrockTimings
from emulator.clock import SystemClock
from tests.unit.emulator.bedrock import (
    BUCKET,
    LITE,
    EmulatedBedrock,
    emulated_bedrock,
    make_importable_model,
    upload,
)

pytestmark = pytest.mark.slow
MESSAGES = [{"role": "user", "content": [{"text": "hello"}]}]
CONFIG = {"maxTokens": 6, "temperature": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_importable_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def here(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBedrock]:
    timings = BedrockTimings(import_s=0, create_s=0, update_s=0, batch_s=0, load_s=0)
    with emulated_bedrock(SystemClock(), tmp_path_factory.mktemp("home"), timings) as running:
        upload(running.s3, folder)
        yield running


@pytest.fixture(scope="module")
def imported(here: EmulatedBedrock) -> str:
    """Return the ARN of an imported model."""
    here.import_model()
    until(lambda: here.bedrock.list_imported_models()["modelSummaries"])
    return str(here.bedrock.get_imported_model(modelIdentifier="support")["modelArn"])


@pytest.fixture(scope="module")
def custom_model(here: EmulatedBedrock) -> str:
    """Return the ARN of a custom model, whose weights also answer for its base."""
    arn = here.custom_model("ours", here.package())
    until(lambda: here.bedrock.get_custom_model(modelIdentifier=arn)["modelStatus"] == "Active")
    api = here.service.custom_models
    here.service.add_foundation_model(LITE, api.folder(api.models.get(arn)))
    return arn


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def invoke(here: EmulatedBedrock, model: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = here.runtime.invoke_model(modelId=model, body=json.dumps(body))
    found: dict[str, Any] = json.loads(answer["body"].read())
    return found


def when_ready(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return the answer of a call, and how often the model was not ready."""
    rejections = 0

    def attempt() -> Any:
        nonlocal rejections
        try:
            return call()
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ModelNotReadyException", error
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            rejections += 1
            return None

    return until(attempt, 120), rejections


def test_an_imported_model_answers_once_it_is_in_memory(
    here: EmulatedBedrock, imported: str
) -> None:
    ask = {"messages": MESSAGES, "inferenceConfig": CONFIG}
    answer, rejections = when_ready(lambda: here.runtime.converse(modelId=imported, **ask))
    assert rejections >= 1, "the first request loads the model"
    text = answer["output"]["message"]["content"][0]["text"]
    assert (answer["stopReason"], answer["usage"]["outputTokens"]) == ("max_tokens", 6)
    # The same tokens in all formats, and in parts.
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "temperature": 0}
    assert invoke(here, imported, chat)["choices"][0]["message"]["content"] == text
    prompt = {"prompt": "user: hello", "temperature": 0}
    completion = invoke(here, imported, {**prompt, "max_tokens": 6})["choices"][0]["text"]
    own = invoke(here, imported, {**prompt, "max_gen_len": 6})
    assert (own["generation"], own["generation_token_count"]) == (completion, 6)
    assert own["stop_reason"] == "length"
    events = list(here.runtime.converse_stream(modelId=imported, **ask)["stream"])
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events[1:-3]) == text
    assert events[-2] == {"messageStop": {"stopReason": "max_tokens"}}
    assert events[-1]["metadata"]["usage"] == answer["usage"]
    stream = here.runtime.invoke_model_with_response_stream(
        modelId=imported, body=json.dumps({**prompt, "max_gen_len": 6})
    )["body"]
    parts = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert "".join(part["generation"] for part in parts) == completion


def test_what_the_model_refuses_is_a_validation_error(here: EmulatedBedrock, imported: str) -> None:
    long = {"prompt": "word " * 400, "max_tokens": 4}
    when_ready(lambda: invoke(here, imported, {"prompt": "a", "max_tokens": 1}))
    for body in (long, {"text": "neither"}):
        with pytest.raises(ClientError, match="ValidationException"):
            invoke(here, imported, body)
    with pytest.raises(ClientError, match="ValidationException"):
        here.runtime.invoke_model_with_response_stream(modelId=imported, body=json.dumps(long))
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        invoke(here, imported[:-1] + "9", long)


def test_an_idle_model_leaves_memory(here: EmulatedBedrock, imported: str) -> None:
    ask = {"prompt": "a", "max_tokens": 1}
    here.service.timings.idle_s = 0.5
    try:
        when_ready(lambda: invoke(here, imported, ask))
        time.sleep(1.5)
        with pytest.raises(ClientError, match="ModelNotReadyException"):
            invoke(here, imported, ask)
    finally:
        here.service.timings.idle_s = 3600.0


def test_deployments_and_throughput_answer_with_their_models(
    here: EmulatedBedrock, custom_model: str
) -> None:
    deployed = here.bedrock.create_custom_model_deployment(
        modelDeploymentName="support", modelArn=custom_model
    )["customModelDeploymentArn"]
    provisioned = here.bedrock.create_provisioned_model_throughput(
        provisionedModelName="support", modelId=custom_model, modelUnits=1
    )["provisionedModelArn"]
    until(
        lambda: here.bedrock.list_provisioned_model_throughputs(statusEquals="InService")[
            "provisionedModelSummaries"
        ]
    )
    ask = {"messages": MESSAGES, "inferenceConfig": CONFIG}
    texts = {
        here.runtime.converse(modelId=which, **ask)["output"]["message"]["content"][0]["text"]
        for which in (deployed, provisioned, LITE)
    }
    assert len(texts) == 1, "the same weights behind all"


def test_a_batch_answers_its_records_in_order(here: EmulatedBedrock, custom_model: str) -> None:
    here.service.batches.min_records = 2
    body = {"messages": MESSAGES, "inferenceConfig": CONFIG}
    records = [{"recordId": f"R{index}", "modelInput": body} for index in range(2)]
    records.insert(1, {"recordId": "bad", "modelInput": {"messages": []}})
    text = "\n".join(json.dumps(record) for record in records)
    here.s3.put_object(Bucket=BUCKET, Key="batch/in.jsonl", Body=text.encode())
    job = here.bedrock.create_model_invocation_job(
        jobName="batch",
        roleArn=here.role,
        modelId=LITE,
        modelInvocationType="Converse",
        inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://{BUCKET}/batch/in.jsonl"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"s3://{BUCKET}/out/"}},
    )["jobArn"]
    ended = until(
        lambda: (
            found
            if "endTime" in (found := here.bedrock.get_model_invocation_job(jobIdentifier=job))
            else None
        )
    )
    assert (ended["status"], ended["successRecordCount"]) == ("PartiallyCompleted", 2)
    key = f"out/{job.rpartition('/')[2]}/in.jsonl.out"
    out = here.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["recordId"] for line in lines] == ["R0", "bad", "R1"]
    assert lines[0]["modelOutput"]["usage"]["outputTokens"] == 6
    assert lines[1]["error"]["errorCode"] == 400


def evaluate(here: EmulatedBedrock, name: str, model: dict[str, Any], **config: Any) -> Any:
    """Run an evaluation job of two questions, and return its description when it has ended."""
    rows = [
        {
            "prompt": text,
            "referenceResponse": "hello there",
            "modelResponses": [{"modelIdentifier": "ours", "response": answer}],
        }
        for text, answer in (("hello", "hello there"), ("bye", "hello"))
    ]
    lines = "\n".join(map(json.dumps, rows))
    here.s3.put_object(Bucket=BUCKET, Key="evaluation/questions.jsonl", Body=lines)
    location = {"s3Uri": f"s3://{BUCKET}/evaluation/questions.jsonl"}
    dataset = {"name": "questions", "datasetLocation": location}
    task = {"taskType": "QuestionAndAnswer", "dataset": dataset}
    metrics = config.pop("metrics", ["Builtin.Accuracy"])
    automated = {"datasetMetricConfigs": [{**task, "metricNames": metrics}], **config}
    arn = here.bedrock.create_evaluation_job(
        jobName=name,
        roleArn=here.role,
        evaluationConfig={"automated": automated},
        inferenceConfig={"models": [model]},
        outputDataConfig={"s3Uri": f"s3://{BUCKET}/scores"},
    )["jobArn"]

    def ended() -> Any:
        job = here.bedrock.get_evaluation_job(jobIdentifier=arn)
        return job if job["status"] != "InProgress" else None

    return until(ended, 300)


def scores(here: EmulatedBedrock, name: str) -> tuple[str, list[Any]]:
    """Return the folder of the results of a job, and the score of each row."""
    (entry,) = here.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"scores/{name}/")["Contents"]
    text = here.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().decode()
    results = [json.loads(line)["automatedEvaluationResult"] for line in text.splitlines()]
    folder = entry["Key"].rpartition("/")[0].partition("/models/")[2]
    return folder, [one["result"] for result in results for one in result["scores"]]


def test_an_evaluation_scores_the_answers_of_a_model(
    here: EmulatedBedrock, custom_model: str
) -> None:
    job = evaluate(here, "answers", {"bedrockModel": {"modelIdentifier": LITE}})
    assert (job["status"], job["jobType"]) == ("Completed", "Automated")
    folder, found = scores(here, "answers")
    assert folder == f"{LITE}/taskTypes/QuestionAndAnswer/datasets/questions"
    assert len(found) == 2
    (summary,) = here.bedrock.list_evaluation_jobs(nameContains="answers")["jobSummaries"]
    assert summary["evaluationTaskTypes"] == ["QuestionAndAnswer"]
    with pytest.raises(ClientError, match="has the status Completed"):
        here.bedrock.stop_evaluation_job(jobIdentifier=job["jobArn"])


def test_an_evaluation_scores_answers_that_are_given(here: EmulatedBedrock) -> None:
    given = {"precomputedInferenceSource": {"inferenceSourceIdentifier": "ours"}}
    assert evaluate(here, "given", given)["status"] == "Completed"
    _, found = scores(here, "given")
    assert found == [1.0, pytest.approx(2 / 3)]
    other = {"precomputedInferenceSource": {"inferenceSourceIdentifier": "theirs"}}
    assert evaluate(here, "missing", other)["failureMessages"] == [
        "ValidationException: a row has no modelResponses of theirs"
    ]


def test_a_judge_is_asked_for_a_score(here: EmulatedBedrock, custom_model: str) -> None:
    given = {"precomputedInferenceSource": {"inferenceSourceIdentifier": "ours"}}
    judge = {"bedrockEvaluatorModels": [{"modelIdentifier": LITE}]}
    judged = evaluate(
        here, "judged", given, metrics=["Builtin.Helpfulness"], evaluatorModelConfig=judge
    )
    assert judged["status"] == "Completed", judged
    _, found = scores(here, "judged")
    assert len(found) == 2, "the judge answered, whether or not with a number"
