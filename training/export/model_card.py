"""Model card: method, data and results of a run, from its measured values."""

from __future__ import annotations

from typing import Any

from training.config import Job


def model_card(job: Job, manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Return the `README.md` of the model's folder.

    Args:
        job: The resolved job.
        manifest: Contents of `manifest.json`.
        evaluation: Contents of `evaluation.json`, before and after training.
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
        *_metric_rows(evaluation),
        "",
        f"- parameters: {manifest['model']['parameters']:,}, of which "
        f"{manifest['model']['trainable']:,} were trained",
        f"- data: {', '.join(f'`{s.source}`' for s in job.data.train) or 'prompts of the job'}, "
        f"{manifest['data']['rows'] or 'streamed'} rows",
        _steps(job, manifest),
        *_kept(evaluation),
        *_rounded(evaluation),
        f"- data digest: `{manifest['data']['train']}`",
        "",
        "Its limitations are those of its base model and its data; it was not evaluated otherwise.",
        "",
    ]
    return "\n".join(lines)


def _steps(job: Job, manifest: dict[str, Any]) -> str:
    if job.adapter is not None and not job.adapter.learns:
        return "- steps: none, nothing is trainable; before is the base model alone"
    return (
        f"- steps: {manifest['steps']} of {job.train.global_batch_size} rows, learning rate "
        f"{job.train.learning_rate:g}, {job.precision}, seed {job.train.seed}"
    )


def _kept(evaluation: dict[str, Any]) -> list[str]:
    kept = evaluation.get("after", {}).get("kept")
    if not kept:
        return []
    return [
        f"- weights: those of step {kept['step']}, with the lowest held-out loss until step "
        f"{kept['last_step']}"
    ]


def _rounded(evaluation: dict[str, Any]) -> list[str]:
    after = evaluation.get("after", {})
    saved = after.get("saved")
    if not saved:
        return []
    change = ""
    if "validation" in saved:
        losses = [side["validation"]["loss"] for side in (after, saved)]
        change = f"; held-out loss {losses[0]:.4f} before rounding, {losses[1]:.4f} after"
    return [f"- precision of the weights: {saved['dtype']}{change}"]


def _method(job: Job) -> str:
    return f"{job.method.title} ({job.adapter.kind})" if job.adapter else job.method.title


def _metric_rows(evaluation: dict[str, Any]) -> list[str]:
    rows = []
    for key, name in (("validation", "held-out loss"), ("forgetting", "loss on general text")):
        before = evaluation.get("before", {}).get(key)
        after = evaluation.get("after", {}).get(key)
        if before and after:
            rows.append(f"| {name} | {before['loss']:.4f} | {after['loss']:.4f} |")
    return rows or ["| held-out loss | not measured | not measured |"]
