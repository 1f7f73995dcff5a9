"""Emulated inference of Bedrock: InvokeModel and Converse, answered by a process with the model.

An imported model is in memory only while it is used: the first request after an idle time is
rejected with ModelNotReadyException, and starts its load.
https://docs.aws.amazon.com/bedrock/latest/userguide/invoke-imported-model.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2

from emulator.bedrock_account import BedrockAccount, arn_kind
from emulator.bedrock_bodies import (
    CHAT,
    InvokeBody,
    chat_body,
    converse_answer,
    converse_events,
    read_invoke_body,
)
from emulator.bedrock_custom_models import CustomModelApi, DeploymentApi
from emulator.bedrock_imports import ImportApi
from emulator.bedrock_invocation_log import InvocationLog
from emulator.bedrock_throughput import ThroughputApi
from emulator.model_process import ModelProcess
from emulator.request_validation import RequestRejected, reject

StartProcess = Callable[[Path, Path], ModelProcess]
_NOT_READY = "Model is not ready for inference. Wait and try your request again. Refer to the docs."


class _Copy:
    """Model in memory.

    Attributes:
        process: Process that answers.
        ready_at: Time from which on it answers.
        used: Time of the last request.
    """

    def __init__(self, process: ModelProcess, ready_at: float):
        self.process, self.ready_at, self.used = process, ready_at, ready_at


class BedrockRuntime:
    """Operations of `bedrock-runtime`.

    Args:
        account: The account.
        imports: Its imported models.
        custom_models: Its custom models.
        deployments: Their on-demand deployments.
        throughputs: Its provisioned throughput.
        start: Starts the process of a model.

    Attributes:
        log: Log of the invocations.
    """

    def __init__(
        self,
        account: BedrockAccount,
        imports: ImportApi,
        custom_models: CustomModelApi,
        deployments: DeploymentApi,
        throughputs: ThroughputApi,
        start: StartProcess = ModelProcess,
    ):
        self._account, self._start = account, start
        self.log = InvocationLog(account)
        self._imports, self._custom = imports, custom_models
        self._deployments, self._throughputs = deployments, throughputs
        self._copies: dict[Path, _Copy] = {}
        self._lock = threading.Lock()

    def invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer InvokeModel."""
        body = read_invoke_body(request.get("body", b""))
        answer = self._post(self._process(request["modelId"]), body.path, body.request)
        bodies = (json.loads(request["body"]), body.document(answer))
        usage = answer.get("usage", {})
        tokens = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        self.log.write("InvokeModel", request["modelId"], bodies, tokens)
        return {"body": body.answer(answer), "contentType": "application/json"}

    def invoke_stream(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer InvokeModelWithResponseStream."""
        body = read_invoke_body(request.get("body", b""))
        events = self._stream(self._process(request["modelId"]), body.path, body.request)
        model, sent = request["modelId"], json.loads(request["body"])

        def chunks() -> Iterator[dict[str, Any]]:
            received = []
            for part in body.parts(events):
                received.append(json.loads(part))
                yield {"chunk": {"bytes": part}}
            self.log.write("InvokeModelWithResponseStream", model, (sent, received))

        return {"body": chunks(), "contentType": "application/json"}

    def converse(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer Converse."""
        response = self._converse(request)
        usage = response["usage"]
        tokens = (usage["inputTokens"], usage["outputTokens"])
        self.log.write("Converse", request["modelId"], (_without_model(request), response), tokens)
        return response

    def _converse(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._check_converse(request["modelId"])
        body = chat_body(request)
        began = self._account.clock.now()
        answer = self._post(self._process(request["modelId"]), CHAT, body)
        return converse_answer(answer, int((self._account.clock.now() - began) * 1000))

    def converse_stream(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer ConverseStream."""
        self._check_converse(request["modelId"])
        body = chat_body(request)
        events = converse_events(self._stream(self._process(request["modelId"]), CHAT, body))

        def logged() -> Iterator[dict[str, Any]]:
            received = []
            for event in events:
                received.append(event)
                yield event
            bodies = (_without_model(request), received)
            self.log.write("ConverseStream", request["modelId"], bodies)

        return {"stream": logged()}

    def answer(self, model: str, body: Mapping[str, Any], *, converse: bool) -> Mapping[str, Any]:
        """Return the answer to a record of a batch inference job, which is not logged.

        Args:
            model: Identifier of the model.
            body: Body of the record.
            converse: Whether it is one of Converse.
        """
        if converse:
            return self._converse({**body, "modelId": model})
        parsed = InvokeBody.from_document(dict(body))
        return parsed.document(self._post(self._process(model), parsed.path, parsed.request))

    def settle(self) -> None:
        """Wait until each process that was started answers or has ended."""
        with self._lock:
            copies = list(self._copies.values())
        for copy in copies:
            copy.process.settle()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            copies, self._copies = self._copies, {}
        for copy in copies.values():
            copy.process.stop()

    # --- models -----------------------------------------------------------------------------

    def _check_converse(self, identifier: str) -> None:
        model = self._imports.models.find(identifier)
        if model is not None and not model["instructSupported"]:
            reject(
                "This action doesn't support the model that you provided. Try again with a "
                "supported text or chat model."
            )

    def _process(self, identifier: str) -> ModelProcess:
        """Return the process that answers for a model.

        Raises:
            RequestRejected: There is no such model, or it is not in memory.
        """
        kind = arn_kind(identifier)
        if kind == "imported-model":
            return self._imported(self._imports.folder(self._imports.models.get(identifier)))
        return self._resident(self._folder(kind, identifier))

    def _folder(self, kind: str, identifier: str) -> Path:
        """Return the folder of a model that is always in memory."""
        if kind == "custom-model-deployment":
            deployment = self._deployments.deployments.get(identifier)
            if deployment["status"] != "Active":
                reject(f"The deployment is {deployment['status']}, not Active")
            return self._model_folder(deployment["modelArn"])
        if kind == "provisioned-model":
            throughput = self._throughputs.throughputs.get(identifier)
            if throughput["status"] not in ("InService", "Updating"):
                reject(f"The throughput is {throughput['status']}, not InService")
            return self._model_folder(throughput["modelArn"])
        return self._foundation(identifier.rpartition("/")[2])

    def _model_folder(self, arn: str) -> Path:
        model = self._custom.models.find(arn)
        if model is None:
            return self._foundation(arn.rpartition("/")[2])
        return self._custom.folder(model)

    def _foundation(self, name: str) -> Path:
        self._account.check_agreement(name)
        if name not in self._account.foundation_models:
            reject("The provided model identifier is invalid.")
        return self._account.foundation_models[name]

    def _resident(self, folder: Path) -> ModelProcess:
        with self._lock:
            if folder not in self._copies:
                self._copies[folder] = self._load(folder, 0.0)
            process = self._copies[folder].process
        process.wait()
        return process

    def _imported(self, folder: Path) -> ModelProcess:
        clock, timings = self._account.clock, self._account.timings
        with self._lock:
            copy, now = self._copies.get(folder), clock.now()
            if copy is None:
                self._copies[folder] = self._load(folder, timings.load_s)
            elif copy.process.is_ready and now >= copy.ready_at:
                copy.used = now
                used = now
            elif copy.process.has_failed:
                copy.process.wait()  # raises, with its last lines
            if copy is None or now < copy.ready_at or not copy.process.is_ready:
                raise RequestRejected("ModelNotReadyException", _NOT_READY)
        clock.call_later(timings.idle_s, lambda: self._evict(folder, used))
        return copy.process

    def _load(self, folder: Path, seconds: float) -> _Copy:
        process = self._start(folder, self._account.home / "logs" / f"{folder.name}.log")
        return _Copy(process, self._account.clock.now() + seconds)

    def _evict(self, folder: Path, used: float) -> None:
        """Remove an imported model from memory if no request came since."""
        with self._lock:
            copy = self._copies.get(folder)
            if copy is None or copy.used > used:
                return
            del self._copies[folder]
        copy.process.stop()

    # --- requests ---------------------------------------------------------------------------

    def _post(self, process: ModelProcess, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = process.post(path, body)
        _raise_rejection(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _stream(
        self, process: ModelProcess, path: str, body: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Return the events of a streamed answer, the first of which has arrived."""
        events = process.stream(path, body, _raise_rejection)
        return chain([next(events)], events)


def _without_model(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a Converse request, whose model is in its path."""
    return {key: value for key, value in request.items() if key != "modelId"}


def _raise_rejection(response: httpx2.Response) -> None:
    """Convert an error of the model's server into one of the service.

    Raises:
        RequestRejected: The response is an error.
    """
    if response.status_code == 200:
        return
    message = str(response.json()["error"]["message"])
    if response.status_code == 429:
        raise RequestRejected("ThrottlingException", message)
    if response.status_code < 500:
        raise RequestRejected("ValidationException", message)
    raise RequestRejected("ModelErrorException", message, originalStatusCode=response.status_code)
