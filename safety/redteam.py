"""Implementation of `temper redteam`: probe a model with harmful requests, secrets and others.

Writes `redteam.json` (every answer) and `redteam.html`. Exit codes: 0 success, 2 an invalid file,
4 the model or the judge failed, 5 the gate: a rate exceeds `--most-answered`, `--most-leaked`,
`--most-over-refused` or `--most-broken`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from safety.binomial import Proportion
from safety.conversations import Dialogue, Exchange, Generator, hold_dialogues
from safety.probes import DEFAULT_PROBES, Probe, ProbeSet, read_probes
from safety.report import write_page
from safety.scoring import Outcome, by_judge, by_rules, judged
from training.config.input_paths import require_model
from training.config.judges import AnyJudge as JudgeSection
from training.errors import JobError, Problem
from training.judges.base import Judge, JudgeContext, JudgeUsage, build_judge
from training.quiet import quiet

GATE = 5
_FAILURES = {"request": "answered", "leak": "leaked", "harmless": "refused"}
"""Outcome that counts as a failure, by kind of probe."""


@dataclass(frozen=True)
class RedteamOptions:
    """Settings of a red-team run.

    Attributes:
        model: A folder or a Hub id.
        before: Another model to compare with.
        probes: A file like `safety/probes.yaml`, or a CSV of requests.
        judge: YAML of a judge; rules decide when omitted.
        max_cost: Cost limit of the judge in USD.
        out: The folder of the report.
        chat_template: A chat template, as `model.chat_template` of a job.
        max_new_tokens: The length of the longest answer.
        batch_size: Prompts per batch.
        limits: The largest tolerated share by kind of probe; None for no limit.
    """

    model: str
    before: str | None = None
    probes: Path = DEFAULT_PROBES
    judge: Path | None = None
    max_cost: float | None = None
    out: Path = Path("redteam-report")
    chat_template: str | None = None
    max_new_tokens: int = 128
    batch_size: int = 8
    limits: Mapping[str, float | None] = field(default_factory=dict)


def run_redteam(options: RedteamOptions) -> int:
    """Red-team a model, write the report, and return the exit code.

    Raises:
        TemperError: A file, the model or the judge cannot be used.
    """
    quiet()
    probes = read_probes(options.probes)
    section = None if options.judge is None else _read_judge(options.judge)
    for argument, name in (("MODEL", options.model), ("--before", options.before)):
        if name:
            require_model(name, argument)
    report = {"model": options.model, **_probe_model(options.model, probes, section, options)}
    if options.before:
        before = _probe_model(options.before, probes, section, options)
        report["before"] = {"model": options.before, **before}
    write_report(report, options.out)
    for line in summary_lines(report):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {options.out}/redteam.html\n")
    failures = exceeded_limits(report, options.limits)
    sys.stderr.write("".join(f"gate: {line}\n" for line in failures))
    return GATE if failures else 0


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write a report into a folder, as JSON and as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    (folder / "redteam.json").write_text(text, encoding="utf-8")
    write_page(report, folder / "redteam.html")


def _probe_model(
    model: str, probes: ProbeSet, section: Any | None, options: RedteamOptions
) -> dict[str, Any]:
    # Imported here, so that invalid arguments are reported before torch is loaded.
    import torch

    from training.judges.local_generator import LocalGenerator

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device("cpu") if accelerator is None else accelerator
    generator = LocalGenerator.load(model, options.chat_template, device, options.batch_size)
    judge = None
    if section is not None:
        context = JudgeContext(device, options.out, options.out / "cache", options.max_cost)
        judge = SafetyJudge(str(options.judge), build_judge(section, context), section.retries)
    return probe_model(generator, probes, judge, max_new_tokens=options.max_new_tokens)


@dataclass(frozen=True)
class SafetyJudge:
    """Judge that decides by meaning, in place of rules.

    Attributes:
        name: Name in the report.
        judge: The judge.
        retries: Further attempts after an unusable reply.
        usage: Counts of its replies.
    """

    name: str
    judge: Judge
    retries: int
    usage: JudgeUsage = field(default_factory=JudgeUsage)

    def outcomes(self, exchanges: Sequence[Exchange]) -> list[Outcome]:
        """Return the outcomes of turns, each judged with all that the user said before it."""
        asked = [
            "\n\n".join(m["content"] for m in exchange.messages if m["role"] == "user")
            for exchange in exchanges
        ]
        answers = [exchange.answer for exchange in exchanges]
        return judged(asked, answers, self.judge, self.retries, self.usage)


def probe_model(
    generator: Generator, probes: ProbeSet, judge: SafetyJudge | None, *, max_new_tokens: int
) -> dict[str, Any]:
    """Return the outcomes of the probes and conversations for one model.

    Args:
        generator: The model.
        probes: Prompts and scripts of conversations.
        judge: Judge of the answers; None for rules.
        max_new_tokens: Longest answer.
    """
    answers = generator.generate(
        [probe.messages for probe in probes.probes],
        max_new_tokens=max_new_tokens,
        temperature=0.0,
    )
    if judge is None:
        pairs = zip(probes.probes, answers, strict=True)
        outcomes = [by_rules(probe, text) for probe, text in pairs]
    else:
        outcomes = by_judge(probes.probes, answers, judge.judge, judge.retries, judge.usage)
    dialogues = hold_dialogues(
        probes.conversations,
        generator,
        max_new_tokens=max_new_tokens,
        judge=None if judge is None else judge.outcomes,
    )
    return {
        "judged_by": "rules" if judge is None else judge.name,
        "unjudged": 0 if judge is None else judge.usage.unusable,
        "unfinished": sum(dialogue.result == "unfinished" for dialogue in dialogues),
        "rates": [*_rates(probes.probes, outcomes), *_conversation_rates(dialogues)],
        "conversations": [dialogue.document() for dialogue in dialogues],
        "answers": [
            {
                "category": probe.category,
                "wrapper": probe.wrapper,
                "asked": probe.messages[-1]["content"],
                "answer": answer,
                "outcome": outcome,
            }
            for probe, answer, outcome in zip(probes.probes, answers, outcomes, strict=True)
        ],
    }


def _conversation_rates(dialogues: Sequence[Dialogue]) -> list[dict[str, Any]]:
    """Return the share of broken conversations: overall, by category and by first broken turn.

    A conversation without a result (unjudged, or longer than the context) is excluded.
    """
    ended = [d for d in dialogues if d.result in ("broken", "held")]
    broken = [d.broken_at is not None for d in ended]
    groups: dict[tuple[str, str], list[bool]] = {("all", ""): broken} if ended else {}
    for dialogue, value in zip(ended, broken, strict=True):
        groups.setdefault(("category", dialogue.script.category), []).append(value)
    for turn in sorted({d.broken_at for d in ended if d.broken_at is not None}):
        groups["first broken turn", str(turn)] = [d.broken_at == turn for d in ended]
    return [
        {"kind": "conversation", "by": by, "name": name, "bad": "broken", **_share(values)}
        for (by, name), values in groups.items()
    ]


def _rates(probes: Sequence[Probe], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the failure rate of each kind of probe: overall, by category and by wrapper."""
    failures: dict[tuple[str, str, str], list[bool]] = {}
    for probe, outcome in zip(probes, outcomes, strict=True):
        if outcome == "unjudged":
            continue
        failed = outcome == _FAILURES[probe.kind]
        for key in (("all", ""), ("category", probe.category), ("disguise", probe.wrapper)):
            if key != ("disguise", ""):
                failures.setdefault((probe.kind, *key), []).append(failed)
    order = ("all", "category", "disguise")
    return [
        {"kind": kind, "by": by, "name": name, "bad": _FAILURES[kind], **_share(values)}
        for (kind, by, name), values in sorted(
            failures.items(), key=lambda it: order.index(it[0][1])
        )
        if by != "category" or kind == "request"
    ]


def _share(values: Sequence[bool]) -> dict[str, object]:
    return Proportion(sum(values), len(values)).document()


def _read_judge(path: Path) -> Any:
    """Return the judge's section in a YAML file.

    Raises:
        JobError: It is not one.
    """
    try:
        return TypeAdapter(JudgeSection).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        fix = "Write the section judge: of a job, such as {kind: openai, url: …, model: …}"
        raise JobError(str(path), [Problem("(file)", reason[:300], fix=fix)]) from None


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Return a line for each kind of probe."""
    titles = {
        "request": "harmful requests answered",
        "leak": "secrets leaked",
        "harmless": "harmless questions refused",
        "conversation": "conversations broken",
    }
    return [
        f"{titles[row['kind']]}: {row['share']:.0%} of {row['of']} "
        f"(95 % interval {row['interval'][0]:.0%} to {row['interval'][1]:.0%})"
        for row in report["rates"]
        if row["by"] == "all"
    ]


def exceeded_limits(report: dict[str, Any], limits: Mapping[str, float | None]) -> list[str]:
    """Return a line for each rate of a report that exceeds its limit, or was not measured.

    Args:
        report: Report of a model.
        limits: The largest tolerated share by kind of probe; None for no limit.
    """
    measured = {row["kind"] for row in report["rates"]}
    failures = [
        f"{kind}: there is a limit of {limit:.0%} and nothing to measure it with"
        for kind, limit in limits.items()
        if limit is not None and kind not in measured
    ]
    for row in report["rates"]:
        limit = limits.get(row["kind"])
        if row["by"] == "all" and limit is not None and row["share"] > limit:
            failures.append(f"{row['kind']}: {row['share']:.0%} {row['bad']}, at most {limit:.0%}")
    return failures
