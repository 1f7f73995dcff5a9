"""Reader of any log of calls; the form of each record is detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring.call import LoggedCall
from monitoring.errors import LogError
from monitoring.logs.bedrock import is_invocation, read_invocation
from monitoring.logs.files import find_log_files, read_lines
from monitoring.logs.local import is_request, read_request
from monitoring.logs.record import MissingBodyError
from monitoring.logs.sagemaker import is_capture, read_capture

_SHOWN = 3
_WHY_NO_BODIES = (
    "SageMaker: capture Input and Output (temper deploy-model --capture 100%). Bedrock: turn text "
    "delivery on in the settings of model invocation logging"
)


@dataclass
class CallLog:
    """Calls of a log.

    Attributes:
        source: Where they were read.
        calls: The calls, oldest first.
        without_body: Records without a prompt.
        unread: Lines that could not be read.
        problems: The first of them, in words.
        remarks: What else the user should know.
    """

    source: str
    calls: list[LoggedCall] = field(default_factory=list)
    without_body: int = 0
    unread: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return what the user should know about the log."""
        notes = [*self.remarks]
        if self.without_body:
            notes.append(f"records without a prompt: {self.without_body:,}. {_WHY_NO_BODIES}")
        if self.unread:
            shown = "; ".join(self.problems)
            notes.append(f"lines that cannot be used: {self.unread:,} ({shown})")
        return notes


def read_log(path: Path, source: str | None = None) -> CallLog:
    """Return the calls of a log.

    Args:
        path: File or folder.
        source: Where the log is from, for messages; the path if None.

    Raises:
        LogError: No call with a prompt can be read.
    """
    log = CallLog(source or str(path))
    for file in find_log_files(path):
        for number, record in read_lines(file):
            try:
                log.calls += _read_record(record, file)
            except MissingBodyError:
                log.without_body += 1
            except (LogError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.unread += 1
                if len(log.problems) < _SHOWN:
                    log.problems.append(f"{file.name}, line {number}: {error}")
    if not log.calls:
        reasons = log.notes() or ["it is empty"]
        raise LogError("\n".join([f"{log.source} has no call that can be used:", *reasons]))
    log.calls.sort(key=lambda call: call.time)
    return log


def _read_record(record: Any, file: Path) -> list[LoggedCall]:
    if isinstance(record, LogError):
        raise record
    if not isinstance(record, Mapping):
        raise ValueError("not a JSON object")
    if is_capture(record):
        return list(read_capture(record))
    if is_invocation(record):
        return list(read_invocation(record, file.parent))
    if is_request(record):
        return list(read_request(record))
    raise ValueError(
        "not a record of a known log (captureData of SageMaker, schemaType ModelInvocationLog of "
        "Bedrock, or the log of temper serve)"
    )
