"""What a training job prints, read from CloudWatch as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from launch.aws.session import code_of, explained

_EVERY_S = 3.0


class LogReader:
    """Reads all streams of one job, each from where it was left.

    Args:
        logs: A client.
        group: The log group of training jobs.
        job: The job's name, with which its streams begin.
    """

    def __init__(self, logs: Any, group: str, job: str):
        self._logs = logs
        self.group = group
        self.job = job
        self._tokens: dict[str, str | None] = {}

    def new_lines(self) -> Iterator[str]:
        """Yield what came since the last call; lines of several hosts begin with the host."""
        with explained(f"reading the log of {self.job}"):
            streams = self._streams()
            several = len({_host(stream) for stream in streams}) > 1
            for stream in streams:
                for message in self._read(stream):
                    yield f"{_host(stream)}  {message}" if several else message

    def _streams(self) -> list[str]:
        found: list[str] = []
        pages = self._logs.get_paginator("describe_log_streams").paginate(
            logGroupName=self.group, logStreamNamePrefix=f"{self.job}/"
        )
        try:
            for page in pages:
                found += [stream["logStreamName"] for stream in page["logStreams"]]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
        return sorted(found)

    def _read(self, stream: str) -> Iterator[str]:
        while True:
            token = self._tokens.get(stream)
            answer = self._logs.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": token} if token else {}),
            )
            for event in answer["events"]:
                yield event["message"].rstrip("\n")
            self._tokens[stream] = answer["nextForwardToken"]
            if answer["nextForwardToken"] == token or not answer["events"]:
                return


def follow_log(
    reader: LogReader, is_over: Callable[[], bool], every_s: float = _EVERY_S
) -> Iterator[str]:
    """Yield a job's lines until it is over and all of them were read."""
    while True:
        over = is_over()
        yield from reader.new_lines()
        if over:
            return
        time.sleep(every_s)


def _host(stream: str) -> str:
    """Return `algo-1` of `job/algo-1-1760000000`."""
    return "-".join(stream.rpartition("/")[2].split("-")[:2])
