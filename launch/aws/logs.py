"""Output of a training job, read from CloudWatch Logs while it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from launch.aws.session import explain_aws_errors

_POLL_INTERVAL_S = 3.0


class LogReader:
    """Reader of all log streams of one job that remembers its position in each.

    Args:
        logs: boto3 client of `logs`.
        group: Log group of training jobs.
        job: Name of the job, the prefix of its streams.
    """

    def __init__(self, logs: Any, group: str, job: str):
        self._logs = logs
        self.group = group
        self.job = job
        self._tokens: dict[str, str | None] = {}

    def new_lines(self) -> Iterator[str]:
        """Yield the lines since the last call, prefixed by the host if the job has several."""
        with explain_aws_errors(f"reading the log of {self.job}"):
            streams = self._streams()
            several = len({_host(stream) for stream in streams}) > 1
            for stream in streams:
                for message in self._read(stream):
                    yield f"{_host(stream)}  {message}" if several else message

    def _streams(self) -> list[str]:
        names: list[str] = []
        pages = self._logs.get_paginator("describe_log_streams").paginate(
            logGroupName=self.group, logStreamNamePrefix=f"{self.job}/"
        )
        # The group does not exist until the first job of the account has logged something.
        with explain_aws_errors(
            f"listing the log streams of {self.job}", ignore=("ResourceNotFoundException",)
        ):
            for page in pages:
                names += [stream["logStreamName"] for stream in page["logStreams"]]
        return sorted(names)

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
            # CloudWatch marks the end of a stream by returning the token that it was given.
            if answer["nextForwardToken"] == token or not answer["events"]:
                return


def follow_log(
    reader: LogReader, is_over: Callable[[], bool], poll_interval_s: float = _POLL_INTERVAL_S
) -> Iterator[str]:
    """Yield a job's lines until it is over and all of them were read.

    Args:
        reader: Reader of the job's log streams.
        is_over: Returns whether the job has ended; called before each read.
        poll_interval_s: Seconds between two reads.
    """
    while True:
        over = is_over()
        yield from reader.new_lines()
        if over:
            return
        time.sleep(poll_interval_s)


def _host(stream: str) -> str:
    """Return `algo-1` for the stream `job/algo-1-1760000000`."""
    return "-".join(stream.rpartition("/")[2].split("-")[:2])
