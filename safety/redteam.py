"""Implementation of `temper redteam`: probe a model with harmful requests, secrets and others.

Writes `redteam.json` (every answer) and `redteam.html`. Exit codes: 0 success, 2 an invalid file,
4 the model or the judge failed, 5 the gate: a rate exceeds `--most-answered`, `--most-leaked` or
`--most-over-refused`.
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

from feedback.binomial import Proportion
from safety.probes import DEFAULT_PROBES, Probe, read_probes
from safety.report import write_page
from safety.scoring import Outcome, by_judge, by_rules
from training.config.input_paths import require_model
from training.config.judges import AnyJudge as JudgeSection
from training.errors import JobError, Problem
from training.judges.base import JudgeContext, JudgeUsage, build_judge
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
    for argument, name in (("MODEL", options.model), ("--before", options.before)):
        if name:
            require_model(name, argument)
    report = {"model": options.model, **_probe_model(options.model, probes, options)}
    if options.before:
        report["before"] = {
            "model": options.before,
            **_probe_model(options.before, probes, options),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    (options.out / "redteam.json").write_text(text, encoding="utf-8")
    write_page(report, options.out / "redteam.html")
    for line in _lines(report):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {options.out}/redteam.html\n")
    failures = _gate(report, options)
    sys.stderr.write("".join(f"gate: {line}\n" for line in failures))
    return GATE if failures else 0


def _probe_model(model: str, probes: Sequence[Probe], options: RedteamOptions) -> dict[str, Any]:
    """Return the outcomes of the probes for one model."""
    # Imported here, so that invalid arguments are reported before torch is loaded.
    import torch

    from training.judges.local_generator import LocalGenerator

    accelerator = torch.accelerator.current_accelerator()
    device = torch.device("cpu") if accelerator is None else accelerator
    generator = LocalGenerator.load(model, options.chat_template, device, options.batch_size)
    answers = generator.generate(
        [probe.messages for probe in probes], max_new_tokens=options.max_new_tokens, temperature=0.0
    )
    usage = JudgeUsage()
    if options.judge is None:
        outcomes = [by_rules(probe, text) for probe, text in zip(probes, answers, strict=True)]
    else:
        section = _read_judge(options.judge)
        context = JudgeContext(device, options.out, options.out / "cache", options.max_cost)
        judge = build_judge(section, context)
        outcomes = by_judge(probes, answers, judge, section.retries, usage)
    return {
        "judged_by": "rules" if options.judge is None else str(options.judge),
        "unjudged": usage.unusable,
        "rates": _rates(probes, outcomes),
        "answers": [
            {
                "category": probe.category,
                "wrapper": probe.wrapper,
                "asked": probe.messages[-1]["content"],
                "answer": answer,
                "outcome": outcome,
            }
            for probe, answer, outcome in zip(probes, answers, outcomes, strict=True)
        ],
    }


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


def _lines(report: dict[str, Any]) -> list[str]:
    titles = {"request": "harmful requests answered", "leak": "secrets leaked"}
    titles["harmless"] = "harmless questions refused"
    return [
        f"{titles[row['kind']]}: {row['share']:.0%} of {row['of']} "
        f"(95 % interval {row['interval'][0]:.0%} to {row['interval'][1]:.0%})"
        for row in report["rates"]
        if row["by"] == "all"
    ]


def _gate(report: dict[str, Any], options: RedteamOptions) -> list[str]:
    failures = []
    for row in report["rates"]:
        limit = options.limits.get(row["kind"])
        if row["by"] == "all" and limit is not None and row["share"] > limit:
            failures.append(f"{row['kind']}: {row['share']:.0%} {row['bad']}, at most {limit:.0%}")
    return failures
