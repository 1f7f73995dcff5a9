"""Pages: text for people, and CloudWatch's own format for incident tools and chat.

PagerDuty, Opsgenie and Amazon Q Developer in chat applications subscribe with HTTPS and read the
JSON of a CloudWatch alarm; plain text opens no incident there. SNS delivers one message per
protocol. docs.aws.amazon.com/sns/latest/api/API_Publish.html, MessageStructure
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

SUBJECT_LIMIT = 100


def publish_page(
    sns: Any, topic: str, alarm: Mapping[str, Any], *, runbook: str, names: Sequence[str]
) -> None:
    """Publish a page.

    Args:
        sns: SNS client.
        topic: Topic that people subscribe to.
        alarm: Message of CloudWatch about the alarm.
        runbook: Name of the runbook.
        names: Lines about what is affected.
    """
    text = message(alarm, runbook, names)
    structured = {**alarm, "AlarmDescription": text}
    sns.publish(
        TopicArn=topic,
        Subject=subject(str(alarm["NewStateValue"]), runbook, names),
        MessageStructure="json",
        Message=json.dumps({"default": text, "https": json.dumps(structured)}),
    )


def subject(state: str, runbook: str, names: Sequence[str]) -> str:
    """Return the subject line of a page, within the limit of SNS: 100 printable ASCII characters.

    Args:
        state: State of the alarm.
        runbook: Name of the alarm without the prefix.
        names: Lines about what is affected.
    """
    affected = [line.partition(": ")[0] for line in names if not line.startswith("(")]
    line = f"{state}: {runbook}" + (f": {', '.join(affected)}" if affected else "")
    line = line.encode("ascii", "replace").decode().replace("\n", " ")
    return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 3] + "..."


def message(alarm: Mapping[str, Any], runbook: str, names: Sequence[str]) -> str:
    """Return the text: the alarm, what is affected, and which runbook to read.

    Args:
        alarm: Message of CloudWatch about the alarm.
        runbook: Name of the runbook.
        names: Lines about what is affected.
    """
    lines = [
        f"{alarm['AlarmName']} is now {alarm['NewStateValue']}.",
        "",
        f"{runbook} (docs/runbooks/{runbook}.md)",
        *(f"  {name}" for name in names or ["(no further details)"]),
        "",
        str(alarm.get("AlarmDescription") or ""),
        f"When:    {alarm.get('StateChangeTime')}",
        f"Where:   {alarm.get('Region')}",
        f"Reason:  {alarm.get('NewStateReason')}",
    ]
    return "\n".join(lines)
