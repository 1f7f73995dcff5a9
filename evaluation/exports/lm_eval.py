"""Suite as a folder of tasks of lm-eval 0.4.13: YAML files, rendered rows, and the scoring.

Prompts are rendered with their examples, so that lm-eval asks exactly what Temper asks. Scores are
computed by Temper's own functions, which the file `scoring.py` carries.
"""

from __future__ import annotations

import pprint
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask, MultipleChoice, Perplexity, TaskSection
from evaluation.exports.base import (
    ExportedSuite,
    ExportOptions,
    Findings,
    Items,
    json_lines,
    render_module,
    score_key,
    section_json,
    why_not_portable,
)
from evaluation.exports.bundle import bundle_source
from evaluation.exports.lm_eval_tasks import (
    CORPUS_METRICS,
    SCORING,
    corpus_metrics,
    task_config,
    task_row,
    write_yaml,
)
from evaluation.exports.portable_scores import PORTABLE_METRICS
from evaluation.items import Item

_BUNDLED = (
    ("evaluation.exports.portable_scores", "score_answer"),
    ("evaluation.scores.classification", "macro_f1"),
    ("evaluation.scores.classification", "matthews"),
)


def export_lm_eval(suite: Suite, items: Items, options: ExportOptions) -> ExportedSuite:
    """Return a suite as a folder of tasks of lm-eval.

    Args:
        suite: The suite.
        items: Items of each task.
        options: Not used.
    """
    findings = Findings("lm-eval")
    findings.note("an item longer than the model's context is cut by lm-eval; Temper skips it")
    files: dict[str, str] = {}
    sections: dict[str, list[dict[str, Any]]] = {}
    groups: dict[str, list[str]] = {}
    tasks = []
    for index, task in enumerate(suite.tasks):
        if not findings.asks_once(index, task):
            continue
        rows = items[task.name]
        kept = _exported_sections(index, task, rows, findings)
        if kept is None:
            continue
        config = task_config(suite, task, rows, kept)
        files[f"{config['task']}.yaml"] = write_yaml(config)
        files[f"{task.name}.jsonl"] = json_lines(task_row(task, item) for item in rows)
        sections[task.name] = kept
        tasks.append(task.name)
        chat = isinstance(task, GenerationTask) and task.chat
        # No task has a name with a dot.
        group = f"{suite.suite}.chat" if chat else suite.suite
        groups.setdefault(group, []).append(config["task"])
    for group, names in groups.items():
        files[f"group_{group}.yaml"] = write_yaml({"group": group, "task": names})
    files[f"{SCORING}.py"] = _scoring_module(suite, sections)
    commands = tuple(_command(group, chat=group != suite.suite) for group in groups)
    notes = tuple(findings.notes)
    return ExportedSuite(files, tuple(tasks), commands, tuple(findings.problems), notes)


def _exported_sections(
    index: int, task: TaskSection, items: Sequence[Item], findings: Findings
) -> list[dict[str, Any]] | None:
    """Return the sections of the scores that are exported; None if the task is not.

    Args:
        index: Number of the task.
        task: The task.
        items: Its items.
        findings: Receives what cannot be exported.
    """
    key = f"tasks.{index}"
    if isinstance(task, Perplexity):
        findings.note("lm-eval does not compute token_perplexity")
    if isinstance(task, MultipleChoice):
        if task.chat:
            reason = "its tokens of a choice after a chat template are others than Temper's"
            findings.omit(f"{key}.chat", f"multiple choice {task.name}", reason)
            return None
        if any(choice == task.target_delimiter for choice in items[0].choices):
            findings.omit(key, task.name, "it cannot read a first item with an empty choice")
            return None
    if not isinstance(task, GenerationTask):
        return []
    if task.samples > 1:
        reason = "it scores one answer to each prompt"
        findings.omit(f"{key}.samples", f"samples: {task.samples} of {task.name}", reason)
        return None
    if task.temperature > 0:
        findings.note(f"{task.name}: answers are drawn, so that two runs differ")
    kept = []
    for number, score in enumerate(task.scores):
        if score.label in PORTABLE_METRICS or score.label in CORPUS_METRICS:
            kept.append(section_json(task, number, items))
        else:
            what = f"{score.label} of {task.name}"
            findings.omit(score_key(index, number), what, why_not_portable(score.label))
    return kept or None


def _command(group: str, *, chat: bool) -> str:
    template = " --apply_chat_template --fewshot_as_multiturn true" if chat else ""
    return (
        "lm_eval --model hf --model_args pretrained=MODEL,dtype=float32 "
        f"--include_path FOLDER --tasks {group}{template}"
    )


def _scoring_module(suite: Suite, sections: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return the module that reads rows and scores answers.

    Args:
        suite: The suite.
        sections: Sections of the exported scores of each task.
    """
    corpus = [metric for task, kept in sections.items() for metric in corpus_metrics(task, kept)]
    return render_module(
        "lm_eval_scoring.py.jinja",
        suite=suite.suite,
        functions=bundle_source(*_BUNDLED),
        sections=pprint.pformat(dict(sections), width=96, sort_dicts=False),
        corpus=[
            (label, name, pprint.pformat(section, width=90, sort_dicts=False), function)
            for label, name, section, function in corpus
        ],
        corpus_labels={
            task: [(label, section["kind"]) for label, _, section, _ in corpus_metrics(task, kept)]
            for task, kept in sections.items()
        },
    )
