"""Subject and text of the message about an event."""

import json
from collections.abc import Mapping
from typing import Any

from .event_fields import NAME_FIELDS, REASON_FIELDS, STATE_FIELDS, first_of, flattened
from .event_runbook import runbook_for


def subject(event: Mapping[str, Any]) -> str:
    """Return the subject line. SNS allows 100 printable ASCII characters."""
    detail = flattened(event.get("detail", {}))
    name = first_of(detail, NAME_FIELDS) or (event.get("resources") or ["?"])[0]
    state = first_of(detail, STATE_FIELDS) or event.get("detail-type", "event")
    line = f"{state}: {name}".replace("\n", " ")
    return line.encode("ascii", "replace").decode()[:100]


def message(event: Mapping[str, Any]) -> str:
    """Return the text: what happened, to which resource, why, and which runbook to read."""
    detail = flattened(event.get("detail", {}))
    lines = [
        f"What:    {event.get('detail-type')} ({event.get('source')})",
        f"Which:   {first_of(detail, NAME_FIELDS) or ', '.join(event.get('resources', []))}",
        f"State:   {first_of(detail, STATE_FIELDS) or 'see below'}",
    ]
    if node := first_of(detail, ("InstanceId",)):
        lines.append(f"Node:    {node}")
    if reason := first_of(detail, REASON_FIELDS):
        lines.append(f"Why:     {reason}")
    if runbook := runbook_for(event):
        lines.append(f"Runbook: docs/runbooks/{runbook}.md")
    lines += [f"When:    {event.get('time')}", f"Where:   {event.get('region')}", ""]
    return "\n".join([*lines, json.dumps(event.get("detail", {}), indent=2, sort_keys=True)[:8000]])
