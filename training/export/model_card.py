"""The model card: what was trained, on what, with which result. Written from what was measured."""

from __future__ import annotations

from typing import Any

from training.config import Job


def model_card(job: Job, manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Return a `README.md` for the model's folder.

    Args:
        job: As resolved.
        manifest: What was run.
        evaluation: What was measured before and after.
    """
    library = "peft" if job.adapter else "transformers"
    lines = [
        "---",
        f"library_name: {library}",
        *([f"base_model: {manifest['model']['source']}"] if job.adapter else []),
        f"tags: [temper, {job.method.kind}]",
        "---",
        f"# {job.name}",
        "",
        f"{_method(job)} of `{job.model.source}` with Temper {manifest['temper']}.",
        "",
        "| | before | after |",
        "|---|---|---|",
        *_measures(evaluation),
        "",
        f"- parameters: {manifest['model']['parameters']:,}, of which "
        f"{manifest['model']['trainable']:,} were trained",
        f"- data: {', '.join(f'`{s.source}`' for s in job.data.train) or 'prompts of the job'}, "
        f"{manifest['data']['rows'] or 'streamed'} rows",
        _steps(job, manifest),
        f"- data digest: `{manifest['data']['train']}`",
        "",
        "Its limits are those of its base and its data; it was measured on nothing else.",
        "",
    ]
    return "\n".join(lines)


def _steps(job: Job, manifest: dict[str, Any]) -> str:
    if job.adapter is not None and not job.adapter.learns:
        return "- steps: none, nothing in it learns; before is its base alone"
    return (
        f"- steps: {manifest['steps']} of {job.train.global_batch_size} rows, learning rate "
        f"{job.train.learning_rate:g}, {job.precision}, seed {job.train.seed}"
    )


def _method(job: Job) -> str:
    return f"{job.method.title} ({job.adapter.kind})" if job.adapter else job.method.title


def _measures(evaluation: dict[str, Any]) -> list[str]:
    rows = []
    for key, name in (("validation", "held-out loss"), ("forgetting", "loss on general text")):
        before = evaluation.get("before", {}).get(key)
        after = evaluation.get("after", {}).get(key)
        if before and after:
            rows.append(f"| {name} | {before['loss']:.4f} | {after['loss']:.4f} |")
    return rows or ["| held-out loss | not measured | not measured |"]
