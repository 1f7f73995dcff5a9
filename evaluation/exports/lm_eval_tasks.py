"""Configuration of a task of lm-eval 0.4.13 that asks and scores as a task of a suite."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import yaml

from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask, MultipleChoice, TaskSection
from evaluation.exports.base import score_fields
from evaluation.exports.portable_scores import PORTABLE_METRICS
from evaluation.items import Item

SCORING = "scoring"
"""Name of the module in the folder that reads rows and scores answers."""
CORPUS_METRICS = {"bleu": ("bleu",), "chrf": ("chrf",), "classification": ("macro_f1", "mcc")}
"""Metrics of all answers of each kind of score."""
_CHOICE_METRICS = ("acc", "acc_norm", "brier_score", "calibration_error")
_TEXT_METRICS = ("bits_per_byte", "byte_perplexity", "word_perplexity")
_LOWER_IS_BETTER = frozenset({"brier_score", "calibration_error", *_TEXT_METRICS})


class ScoringFunction(str):
    """Name of a function of the scoring module, which YAML marks by `!function`."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    ScoringFunction,
    lambda dumper, name: dumper.represent_scalar("!function", f"{SCORING}.{name}"),
)


def write_yaml(config: dict[str, Any]) -> str:
    """Return a configuration as YAML."""
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def task_config(
    suite: Suite, task: TaskSection, items: Sequence[Item], sections: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the configuration of a task.

    Args:
        suite: The suite.
        task: The task.
        items: Its items.
        sections: Sections of the scores of a generation task that are exported.
    """
    config = {
        "task": f"{suite.suite}_{task.name}",
        "custom_dataset": ScoringFunction("load_rows"),
        "dataset_kwargs": {"file": f"{task.name}.jsonl"},
        "test_split": "test",
        "num_fewshot": 0,
    }
    if isinstance(task, GenerationTask):
        return config | _generation(task, items, sections)
    if isinstance(task, MultipleChoice):
        return config | {
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",
            "doc_to_choice": "choices",
            "doc_to_target": "right",
            "target_delimiter": task.target_delimiter,
            "process_results": ScoringFunction("process_choices"),
            "metric_list": [_metric(name, name) for name in _CHOICE_METRICS],
        }
    return config | {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": name, "higher_is_better": False} for name in _TEXT_METRICS],
    }


def task_row(task: TaskSection, item: Item) -> dict[str, Any]:
    """Return an item as a row of the task's data."""
    row: dict[str, Any] = {"id": item.id, "task": task.name, "group": item.group}
    if isinstance(task, MultipleChoice):
        delimiter = len(task.target_delimiter)
        choices = [choice[delimiter:] for choice in item.choices]
        return row | {"prompt": item.prompt, "choices": choices, "right": item.right}
    if isinstance(task, GenerationTask):
        prompt = item.prompt if isinstance(item.prompt, str) else item.prompt[-1]["content"]
        fields = score_fields(task, item)
        target = item.targets[0] if item.targets else ""
        row |= {"prompt": prompt, "target": target, "targets": list(item.targets)}
        return row | ({"fields": fields} if fields else {})
    return row | {"text": item.prompt}


def corpus_metrics(
    task: str, sections: Sequence[dict[str, Any]]
) -> list[tuple[str, str, dict[str, Any], str]]:
    """Return the metrics of all answers of a task.

    Args:
        task: Name of the task.
        sections: Sections of its scores.

    Returns:
        Label in the results, name of the metric, section, and name of the function of each.
    """
    metrics = []
    for number, section in enumerate(sections):
        for name in CORPUS_METRICS.get(section["kind"], ()):
            # A task's name need not be one of Python's.
            digest = hashlib.sha256(f"{task}.{number}".encode()).hexdigest()[:8]
            function = f"{name}_{digest}"
            metrics.append((_label(section, name), name, section, function))
    return metrics


def _generation(
    task: GenerationTask, items: Sequence[Item], sections: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    settings: dict[str, Any] = {"until": list(task.stop), "max_gen_toks": task.max_new_tokens}
    settings |= {"do_sample": task.temperature > 0}
    if task.temperature > 0:
        settings["temperature"] = task.temperature
    metrics = [
        _metric(_label(section, name), name)
        for section in sections
        for name in PORTABLE_METRICS.get(section["kind"], ())
    ]
    metrics += [
        _metric(label, name) | {"aggregation": ScoringFunction(function)}
        for label, name, _, function in corpus_metrics(task.name, sections)
    ]
    config: dict[str, Any] = {
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "generation_kwargs": settings,
        "process_results": ScoringFunction("process_answer"),
        "metric_list": metrics,
    }
    return config | (_conversation(items[0]) if task.chat else {})


def _conversation(item: Item) -> dict[str, Any]:
    """Return the system message and the examples of a chat task, which all items share."""
    assert isinstance(item.prompt, list)
    messages = item.prompt[:-1]
    config: dict[str, Any] = {}
    if messages and messages[0]["role"] == "system":
        # lm-eval takes a description for a Jinja template.
        config["description"] = "{% raw %}" + messages.pop(0)["content"] + "{% endraw %}"
    samples = [
        {"prompt": question["content"], "target": answer["content"]}
        for question, answer in zip(messages[::2], messages[1::2], strict=True)
    ]
    if samples:
        config["num_fewshot"] = len(samples)
        config["fewshot_config"] = {"sampler": "first_n", "samples": samples}
    return config


def _label(section: dict[str, Any], name: str) -> str:
    return f"{section['name']}_{name}" if section.get("name") else name


def _metric(label: str, name: str) -> dict[str, Any]:
    aggregation = ScoringFunction(name) if name == "calibration_error" else "mean"
    better = name not in _LOWER_IS_BETTER
    return {"metric": label, "aggregation": aggregation, "higher_is_better": better}
