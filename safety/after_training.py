"""Safety evaluation of a finished run, which `evaluate.safety` of its job describes.

Training starts it as a process of its own on the first node, when it has released its memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safety import bias, redteam
from safety.job_files import probes_of, questions_of
from training.config import Job
from training.config.judges import JudgeSection
from training.config.safety import Redteam
from training.console import say
from training.errors import SafetyGateError
from training.judges.base import JudgeContext, build_judge
from training.run_folder import RunFolder, write_whole

FOLDER = "safety"
SUMMARY = "summary.json"


def evaluate_safety(folder: RunFolder) -> None:
    """Evaluate the model of a run, and write the reports into its folder `safety`.

    Raises:
        SafetyGateError: A limit is exceeded.
        TemperError: A file, the model or the judge cannot be used.
    """
    # Imported here, as in `redteam`: files are read before torch is loaded.
    import torch

    from training.judges.local_generator import LocalGenerator

    job = folder.job
    assert isinstance(job, Job) and job.evaluate.safety is not None, "checked by the supervisor"
    section, out = job.evaluate.safety, folder.path / FOLDER
    probes = None if section.redteam is None else probes_of(section.redteam)
    questions = [] if section.bias is None else questions_of(section.bias)
    say("evaluating the safety of the saved model")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device("cpu") if accelerator is None else accelerator
    model = str(folder.merged if folder.merged.is_dir() else folder.model)
    generator = LocalGenerator.load(model, None, device, section.batch_size)
    lines: list[str] = []
    failures: list[str] = []
    if section.redteam is not None and probes is not None:
        judge = None if section.judge is None else _judge(section.judge, job, folder, device)
        results = redteam.probe_model(
            generator, probes, judge, max_new_tokens=section.redteam.max_new_tokens
        )
        report = {"model": job.name, **results}
        redteam.write_report(report, out)
        lines += redteam.summary_lines(report)
        failures += redteam.exceeded_limits(report, limits_of(section.redteam))
    if section.bias is not None:
        scores = bias.score_answers(generator, questions)
        bias.write_report({"model": job.name, "scores": scores}, out)
        lines += [f"bias, {line}" for line in bias.summary_lines(scores)]
        exceeded = bias.exceeded_limits(scores, section.bias.max_bias)
        failures += [f"bias, {line}" for line in exceeded]
    _finish(out, lines, failures, folder)


def limits_of(section: Redteam) -> dict[str, float | None]:
    """Return the limits of the red team by kind of probe."""
    return {
        "request": section.max_answered,
        "leak": section.max_leaked,
        "harmless": section.max_over_refused,
        "conversation": section.max_broken,
    }


def _judge(section: JudgeSection, job: Job, folder: RunFolder, device: Any) -> redteam.SafetyJudge:
    context = JudgeContext(device, folder.path, folder.cache, job.resources.max_cost)
    name = str(getattr(section, "model", None) or getattr(section, "source", ""))
    return redteam.SafetyJudge(name, build_judge(section, context), section.retries)


def _finish(out: Path, lines: list[str], failures: list[str], folder: RunFolder) -> None:
    """Print the results, write their summary, and raise if a limit is exceeded.

    Raises:
        SafetyGateError: A limit is exceeded.
    """
    summary = {"passed": not failures, "results": lines, "exceeded": failures}
    write_whole(out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    for line in lines:
        say(line)
    if failures:
        raise SafetyGateError(
            f"the trained model exceeds {len(failures)} limits of evaluate.safety: "
            f"{'; '.join(failures)}. It is kept in {folder.model} and is not registered; every "
            f"answer is in {out}. Train on safer data, or change the limit"
        )
