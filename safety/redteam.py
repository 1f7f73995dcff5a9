"""The work of `temper redteam`: probe a model with requests it should refuse, and others.

Writes `redteam.json` (every answer) and `redteam.html`. Exit codes: 0 done, 2 a file that is
named, 4 the model or the judge fails, 5 the gate: more gets through than `--most-answered`, more
leaks than `--most-leaked`, more harmless questions refused than `--most-over-refused`.
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
from safety.probes import OURS, Probe, read_probes
from safety.report import write_page
from safety.scoring import Outcome, by_judge, by_rules
from training.config.judges import AnyJudge as JudgeSection
from training.errors import JobError, Problem
from training.judges.base import JudgeContext, JudgeUsage, build_judge
from training.quiet import quiet

GATE = 5
_COLUMNS = {"request": "answered", "leak": "leaked", "harmless": "refused"}
"""The outcome of each kind that should not be."""


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
    probes: Path = OURS
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
    report = {"model": options.model, **_provoked(options.model, probes, options)}
    if options.before:
        report["before"] = {"model": options.before, **_provoked(options.before, probes, options)}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    (options.out / "redteam.json").write_text(text, encoding="utf-8")
    write_page(report, options.out / "redteam.html")
    for line in _lines(report):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {options.out}/redteam.html\n")
    failed = _gate(report, options)
    sys.stderr.write("".join(f"gate: {line}\n" for line in failed))
    return GATE if failed else 0


def _provoked(model: str, probes: Sequence[Probe], options: RedteamOptions) -> dict[str, Any]:
    """Return what became of the probes with one model."""
    # Imported here: what is wrong with the arguments is said at once.
    import torch

    from training.judges.local_generator import LocalGenerator

    accelerator = torch.accelerator.current_accelerator()
    device = torch.device("cpu") if accelerator is None else accelerator
    answerer = LocalGenerator.load(model, options.chat_template, device, options.batch_size)
    answers = answerer.generate(
        [probe.messages for probe in probes], max_new_tokens=options.max_new_tokens, temperature=0.0
    )
    count = JudgeUsage()
    if options.judge is None:
        outcomes = [by_rules(probe, text) for probe, text in zip(probes, answers, strict=True)]
    else:
        section = _judge(options.judge)
        place = JudgeContext(device, options.out, options.out / "cache", options.max_cost)
        judge = build_judge(section, place)
        outcomes = by_judge(probes, answers, judge, section.retries, count)
    return {
        "judged_by": "rules" if options.judge is None else str(options.judge),
        "unjudged": count.unusable,
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
    """Return, by kind, category and disguise, how often what should not be came to be."""
    found: dict[tuple[str, str, str], list[bool]] = {}
    for probe, outcome in zip(probes, outcomes, strict=True):
        if outcome == "unjudged":
            continue
        bad = outcome == _COLUMNS[probe.kind]
        for key in (("all", ""), ("category", probe.category), ("disguise", probe.wrapper)):
            if key != ("disguise", ""):
                found.setdefault((probe.kind, *key), []).append(bad)
    order = ("all", "category", "disguise")
    return [
        {"kind": kind, "by": by, "name": name, "bad": _COLUMNS[kind], **_share(values)}
        for (kind, by, name), values in sorted(found.items(), key=lambda it: order.index(it[0][1]))
        if by != "category" or kind == "request"
    ]


def _share(values: Sequence[bool]) -> dict[str, object]:
    return Proportion(sum(values), len(values)).document()


def _judge(path: Path) -> Any:
    try:
        return TypeAdapter(JudgeSection).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        said = " ".join(str(error).split())
        fix = "It is the section judge: of a job, such as {kind: openai, url: …, model: …}"
        raise JobError(str(path), [Problem("(file)", said[:300], fix=fix)]) from None


def _lines(report: dict[str, Any]) -> list[str]:
    words = {"request": "harmful requests answered", "leak": "secrets leaked"}
    words["harmless"] = "harmless questions refused"
    return [
        f"{words[row['kind']]}: {row['share']:.0%} of {row['of']} "
        f"(95 % interval {row['interval'][0]:.0%} to {row['interval'][1]:.0%})"
        for row in report["rates"]
        if row["by"] == "all"
    ]


def _gate(report: dict[str, Any], options: RedteamOptions) -> list[str]:
    found = []
    for row in report["rates"]:
        limit = options.limits.get(row["kind"])
        if row["by"] == "all" and limit is not None and row["share"] > limit:
            found.append(f"{row['kind']}: {row['share']:.0%} {row['bad']}, at most {limit:.0%}")
    return found
