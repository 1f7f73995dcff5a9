"""Emulated evaluation jobs of Bedrock: answers of models, or answers that are given, and scores.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-evaluation-report-programmatic.html.
`Builtin.Accuracy` is the F1 of the words, as for questions and answers. A judge is really asked,
with a prompt of this emulator, and the first number of its answer is the score.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from emulator.bedrock_account import BedrockAccount, BedrockResources, reject_conflict
from emulator.bedrock_runtime import BedrockRuntime
from emulator.request_validation import check_role, reject
from launch.aws.s3 import S3Store, S3Uri

_MAX_PROMPTS = 1000
_ACCURACY = "Builtin.Accuracy"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class EvaluationApi:
    """Evaluation jobs.

    Args:
        account: The account.
        runtime: Answers the prompts.
    """

    def __init__(self, account: BedrockAccount, runtime: BedrockRuntime):
        self._account, self._runtime = account, runtime
        self.jobs = BedrockResources(account, "jobArn", "jobName")

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a job (CreateEvaluationJob).

        Raises:
            RequestRejected: The name is in use, the role cannot be assumed, or the configuration
                is one of people, whose workflows new accounts cannot create.
        """
        account = self._account
        check_role(request["roleArn"], account.client, "bedrock.amazonaws.com")
        if "automated" not in request["evaluationConfig"]:
            reject("an evaluation by people needs a flow definition, which is not emulated")
        if "models" not in request["inferenceConfig"]:
            reject("evaluations of knowledge bases are not emulated")

        def create(arn: str) -> None:
            if self.jobs.find(request["jobName"]):
                reject_conflict(f"An evaluation job named {request['jobName']} already exists")
            now = account.now()
            dropped = ("jobTags", "clientRequestToken")
            self.jobs.add(
                {
                    "applicationType": "ModelEvaluation",
                    **{key: value for key, value in request.items() if key not in dropped},
                    "jobArn": arn,
                    "jobType": "Automated",
                    "status": "InProgress",
                    "creationTime": now,
                    "lastModifiedTime": now,
                },
                request.get("jobTags", ()),
            )

        def start(arn: str) -> None:
            job = self.jobs.get(arn)
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            account.clock.call_later(account.timings.batch_s, thread.start)

        return {"jobArn": account.create_once(request, "evaluation-job", create, start)}

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a job (GetEvaluationJob)."""
        return self.jobs.get(request["jobIdentifier"])

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return jobs, newest first (ListEvaluationJobs)."""
        found, more = self.jobs.page(request, "creationTime", statusEquals="status")
        keys = ("jobArn", "jobName", "status", "creationTime", "jobType", "applicationType")
        summaries = [
            {
                **{key: job[key] for key in keys},
                "evaluationTaskTypes": [one["taskType"] for one in _datasets(job)],
            }
            for job in found
        ]
        return {"jobSummaries": summaries, **more}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop a job (StopEvaluationJob)."""
        self.jobs.stop(self.get(request))
        return {}

    def _run(self, job: dict[str, Any]) -> None:
        """Evaluate the models of a job on each data set, and write the results."""
        try:
            for dataset in _datasets(job):
                rows = self._rows(dataset)
                for model in job["inferenceConfig"]["models"]:
                    self._evaluate(job, dataset, rows, model)
            status = "Stopped" if job["status"] == "Stopping" else "Completed"
        except Exception as error:  # the service, too, ends a job whose input it cannot read
            job["failureMessages"] = [str(error)[:2048]]
            status = "Failed"
        job |= {"status": status, "lastModifiedTime": self._account.now()}

    def _rows(self, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a data set.

        Raises:
            RequestRejected: It cannot be read, or has too many rows.
        """
        location = dataset["dataset"].get("datasetLocation", {}).get("s3Uri")
        if location is None:
            reject(f"the data set {dataset['dataset']['name']} of AWS is not emulated")
        text = S3Store(self._account.client("s3")).get_text(S3Uri.parse(location))
        if text is None:
            reject(f"There is no object at {location}")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        if not 1 <= len(rows) <= _MAX_PROMPTS:
            reject(f"{location} has {len(rows)} prompts; from 1 to {_MAX_PROMPTS} are allowed")
        if missing := [number for number, row in enumerate(rows, 1) if "prompt" not in row]:
            reject(f"{location}: line {missing[0]} has no prompt")
        return rows

    def _evaluate(
        self,
        job: Mapping[str, Any],
        dataset: Mapping[str, Any],
        rows: list[dict[str, Any]],
        model: Mapping[str, Any],
    ) -> None:
        """Write the lines of one data set and one model.

        Args:
            job: The job.
            dataset: The data set with its metrics.
            rows: Its rows.
            model: The model.
        """
        name, lines = _model_name(model), []
        for row in rows:
            if job["status"] == "Stopping":
                return
            answer = self._answer(model, row)
            scores = [
                {"metricName": metric, "result": self._score(job, metric, row, answer)}
                for metric in dataset["metricNames"]
            ]
            response = {"modelIdentifier": name, "response": answer}
            lines.append(
                {
                    "automatedEvaluationResult": {"scores": scores},
                    "inputRecord": row,
                    "modelResponses": [response],
                }
            )
        id_ = job["jobArn"].rpartition("/")[2]
        home = S3Uri.parse(job["outputDataConfig"]["s3Uri"].rstrip("/"))
        folder = home / job["jobName"] / id_ / "models" / name.rpartition("/")[2]
        place = folder / "taskTypes" / dataset["taskType"] / "datasets" / dataset["dataset"]["name"]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        S3Store(self._account.client("s3")).put_text(text, place / f"{uuid.uuid4()}_output.jsonl")

    def _answer(self, model: Mapping[str, Any], row: Mapping[str, Any]) -> str:
        """Return the answer of a model to a row, or the one that the row has.

        Raises:
            RequestRejected: A row lacks the answer that the job names.
        """
        if "precomputedInferenceSource" in model:
            wanted = _model_name(model)
            for response in row.get("modelResponses", ()):
                if response["modelIdentifier"] == wanted:
                    return str(response["response"])
            reject(f"a row has no modelResponses of {wanted}")
        return self._ask(model["bedrockModel"]["modelIdentifier"], row["prompt"])

    def _ask(self, model: str, prompt: str) -> str:
        body = {"messages": [{"role": "user", "content": [{"text": prompt}]}]}
        answer = self._runtime.answer(model, body, converse=True)
        return str(answer["output"]["message"]["content"][0]["text"])

    def _score(
        self, job: Mapping[str, Any], metric: str, row: Mapping[str, Any], answer: str
    ) -> float | None:
        """Return the score of an answer; None if the judge names none.

        Args:
            job: The job.
            metric: Name of the metric.
            row: The row.
            answer: The answer.
        """
        automated = job["evaluationConfig"]["automated"]
        custom = automated.get("customMetricConfig", {})
        for one in custom.get("customMetrics", ()):
            definition = one["customMetricDefinition"]
            if definition["name"] == metric:
                return self._judge(custom, definition["instructions"], row, answer)
        if "evaluatorModelConfig" in automated:
            return self._judge(automated, metric, row, answer)
        if metric != _ACCURACY:
            reject(f"{metric} without a judge is not emulated")
        return _f1(answer, row.get("referenceResponse", ""))

    def _judge(
        self, config: Mapping[str, Any], instructions: str, row: Mapping[str, Any], answer: str
    ) -> float | None:
        (judge,) = config["evaluatorModelConfig"]["bedrockEvaluatorModels"]
        prompt = instructions.replace("{{prompt}}", row["prompt"]).replace("{{prediction}}", answer)
        found = _NUMBER.search(self._ask(judge["modelIdentifier"], prompt))
        return float(found[0]) if found else None


def _datasets(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from job["evaluationConfig"]["automated"]["datasetMetricConfigs"]


def _model_name(model: Mapping[str, Any]) -> str:
    if "precomputedInferenceSource" in model:
        return str(model["precomputedInferenceSource"]["inferenceSourceIdentifier"])
    return str(model["bedrockModel"]["modelIdentifier"])


def _f1(answer: str, reference: str) -> float:
    ours, theirs = (Counter(text.lower().split()) for text in (answer, reference))
    common = sum((ours & theirs).values())
    total = sum(ours.values()) + sum(theirs.values())
    return 2 * common / total if total else 0.0
