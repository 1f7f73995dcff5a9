"""Invocation of the platform's Lambda functions: their code is that of this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from emulator.moto_account import ROOT
from emulator.request_validation import Client

Invoke = Callable[[str, dict[str, Any]], Any]
"""Takes the ARN of a function and its event, returns its answer; raises `FunctionFailed`."""
_CODE = ROOT / "stacks"
"""Folder of the package `handlers`, by which the functions name their code."""
_TIMEOUT_S = 600.0
"""Longest time that a Lambda step may take."""
_PROGRAM = """\
import importlib, json, sys
module, _, name = sys.argv[1].rpartition(".")
sys.path.append(sys.argv[2])  # last: the folder has modules with names of the standard library
event = json.load(sys.stdin)
sys.stdout = sys.stderr
answer = getattr(importlib.import_module(module), name)(event, None)
sys.__stdout__.write(json.dumps(answer))
"""


class FunctionFailed(Exception):  # noqa: N818 (a response of the service, not a program error)
    """Error of an invoked function, or of its invocation."""


class FunctionRunner:
    """Runner of functions in processes of their own.

    Args:
        client: Returns the boto3 client of a service of the emulated account.
        endpoint: Endpoint of the emulated account.
        region: Its Region.
    """

    def __init__(self, client: Client, endpoint: str, region: str):
        self._client, self._endpoint, self._region = client, endpoint, region

    def __call__(self, arn: str, event: dict[str, Any]) -> Any:
        """Return the answer of a function.

        Args:
            arn: ARN of the function.
            event: What it is given.

        Raises:
            FunctionFailed: It does not exist, raised an error, or took too long.
        """
        try:
            config = self._client("lambda").get_function_configuration(FunctionName=arn)
        except ClientError as error:
            raise FunctionFailed(f"ClientError: {error}") from error
        variables = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL": self._endpoint,
            **config.get("Environment", {}).get("Variables", {}),
        }
        timeout_s = min(float(config.get("Timeout", 3)), _TIMEOUT_S)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _PROGRAM, config["Handler"], str(_CODE)],
                env=variables,
                input=json.dumps(event),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FunctionFailed(f"ClientError: {arn} took more than {timeout_s:.0f} s") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise FunctionFailed(f"ClientError: {arn} failed: {last}")
        return json.loads(done.stdout)
