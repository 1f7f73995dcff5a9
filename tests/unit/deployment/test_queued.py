"""Asynchronous endpoints and batches, in an emulated account."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from deployment.errors import DeployModelError
from deployment.polling import Polling
from deployment.targets.asynchronous import AsynchronousTarget
from deployment.targets.batch import BatchTarget
from tests.unit.deployment.conftest import NAMES, Deployments, reply

pytestmark = pytest.mark.slow
NAME = "temper-dev-support"
CPU = "ml.c5.2xlarge"
ROWS = f"s3://{NAMES['runs']}/serving/rows.jsonl"


def test_an_asynchronous_endpoint_answers_swaps_and_goes(deployments: Deployments) -> None:
    deployments.register("a", reply__json=reply("one"))
    target = AsynchronousTarget(deployments.account)
    scaling = {"min": 0, "max": 2, "concurrent_requests": 4}
    request = deployments.request("support@1.0.0", to="async", scaling=scaling)
    assert list(target.problems(request)) == []
    assert target.quote(request).idle_usd == 0
    found = target.deploy(request)
    assert (found.to, found.state, found.model) == ("async", "deployed", "support@1.0.0")
    assert target.ask("support", {"prompt": "x"})["choices"][0]["text"] == "one"
    hosted = deployments.hosted
    (alarm,) = hosted.client("cloudwatch").describe_alarms(AlarmNames=[f"{NAME}-wake"])[
        "MetricAlarms"
    ]
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    (policy,) = alarm["AlarmActions"]
    assert "from-zero" in policy
    deployments.register("b", reply__json=reply("two"))
    swapped = target.swap(deployments.request("support@1.0.1", to="async", scaling=scaling))
    assert swapped.model == "support@1.0.1"
    assert target.ask("support", {"prompt": "x"})["choices"][0]["text"] == "two"
    target.undeploy("support")
    assert deployments.names("Endpoint") == deployments.names("EndpointConfig") == []


def test_a_request_that_fails_says_why(deployments: Deployments) -> None:
    deployments.register("a", error__txt="x")
    target = AsynchronousTarget(deployments.account)
    target.deploy(deployments.request("support@1.0.0", to="async"))
    with pytest.raises(DeployModelError, match="the request failed"):
        target.ask("support", {"prompt": "x"})


def batch(deployments: Deployments, model: str = "support@1.0.0", **values: str) -> BatchTarget:
    """Put the rows into S3, run a batch, and return the target."""
    rows = "".join(json.dumps({"prompt": f"row {n}"}) + "\n" for n in range(3))
    deployments.hosted.client("s3").put_object(
        Bucket=NAMES["runs"], Key="serving/rows.jsonl", Body=rows.encode()
    )
    target = BatchTarget(deployments.account)
    given = {"input": ROWS, **values}
    request = deployments.request(model, to="batch", instance=CPU, batch=given)
    assert list(target.problems(request)) == []
    target.deploy(request)
    return target


@contextmanager
def passing_time(deployments: Deployments) -> Iterator[Deployments]:
    """Yield an environment whose waiting lets the threads of the service run."""

    def sleep(seconds: float) -> None:
        deployments.hosted.advance(seconds)
        time.sleep(0.02)

    polling = Polling(sleep=sleep, now=deployments.hosted.clock.now)
    yield replace(deployments, account=replace(deployments.account, polling=polling))


def test_a_batch_answers_every_row_once(deployments: Deployments) -> None:
    deployments.register("a", reply__json=reply("one"))
    output = f"s3://{NAMES['runs']}/serving/out-a"
    with passing_time(deployments) as passing:
        batch(passing, output=output)
        batch(passing, output=output)
    assert deployments.calls("CreateTransformJob") == 2, "the second one is refused by its name"
    answers = deployments.hosted.client("s3").list_objects_v2(
        Bucket=NAMES["runs"], Prefix="serving/out-a/"
    )["Contents"]
    assert [entry["Key"] for entry in answers] == ["serving/out-a/rows.jsonl.out"]
    body = deployments.hosted.client("s3").get_object(Bucket=NAMES["runs"], Key=answers[0]["Key"])[
        "Body"
    ]
    lines = body.read().decode().splitlines()
    assert [json.loads(line)["choices"][0]["text"] for line in lines] == ["one"] * 3
    assert deployments.names("Model") == [], "the model goes with the job"


def test_a_batch_that_fails_says_why(deployments: Deployments) -> None:
    deployments.register("a", crash__txt="x")
    output = f"s3://{NAMES['runs']}/serving/out-b"
    with passing_time(deployments) as passing, pytest.raises(DeployModelError, match="is Failed"):
        batch(passing, output=output)


def test_a_running_batch_is_listed_and_stopped(deployments: Deployments) -> None:
    deployments.register("a")
    target = BatchTarget(deployments.account)
    polling = Polling(sleep=lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    stopped = replace(deployments, account=replace(deployments.account, polling=polling))
    output = f"s3://{NAMES['runs']}/serving/out-c"
    with pytest.raises(KeyboardInterrupt):
        batch(stopped, output=output)
    (found,) = target.list()
    assert (found.name, found.state, found.model) == ("support", "deployed", "support@1.0.0")
    assert (found.instances, target.find("support")) == ({CPU: 1}, found)
    with passing_time(deployments) as passing:
        BatchTarget(passing.account).undeploy("support")
    assert target.list() == []
    assert deployments.names("Model") == []
    with pytest.raises(DeployModelError, match="a batch, whose version stays"):
        target.swap(deployments.request("support@1.0.0", to="batch", instance=CPU))
