"""Model card of a version for SageMaker's model registry.

The card of a model package has a schema of its own: the overview holds the creator and the
artifacts, and each section has limits. Its classes are `ModelCardContent` in `sagemaker-core`.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageModelCard.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from registry.record import ModelRecord

_MAX_CARD = 100_000
_MAX_SUITES = 100
_MAX_METRICS = 200  # of a suite; fewer if the card of many large suites would be too long
_MAX_TEXT = 2048


def model_card(record: ModelRecord, artifacts: Sequence[str]) -> str:
    """Return the card's JSON: origin, metrics with intervals, and what was overridden.

    Args:
        record: The version.
        artifacts: Addresses of its forms.
    """
    metrics = _MAX_METRICS
    while len(text := json.dumps(_content(record, artifacts, metrics))) > _MAX_CARD and metrics:
        metrics //= 2
    return text


def _content(record: ModelRecord, artifacts: Sequence[str], metrics: int) -> dict[str, Any]:
    origin = record.provenance
    adapter = f", adapter {origin.adapter}" if origin.adapter else ""
    content: dict[str, Any] = {
        "model_overview": {
            "model_creator": record.registered_by[:1024],
            "model_artifact": list(artifacts)[:15],
        },
        "training_details": {
            "training_observations": (
                f"{record.id} of the run {origin.run}: {origin.method}{adapter} on {origin.base}"
            )[:1024],
            "training_job_details": {
                "user_provided_hyper_parameters": _hyper_parameters(record),
            },
        },
        "evaluation_details": [
            _evaluation(one, metrics) for one in record.evaluations[:_MAX_SUITES]
        ],
        "additional_information": {"custom_details": _custom_details(record)},
    }
    if record.overridden:
        problems = "; ".join(record.overridden)
        caveat = f"Registered despite problems ({record.override}): {problems}"
        content["additional_information"]["caveats_and_recommendations"] = caveat[:_MAX_TEXT]
    return content


def _hyper_parameters(record: ModelRecord) -> list[dict[str, str]]:
    origin = record.provenance
    values = {"method": origin.method, "adapter": origin.adapter, "seed": origin.seed}
    return [
        {"name": name, "value": str(value)[:255]}
        for name, value in values.items()
        if value is not None
    ]


def _custom_details(record: ModelRecord) -> dict[str, str]:
    origin = record.provenance
    values = {
        "job_sha256": origin.job_sha256,
        "base_digest": origin.base_digest,
        "tokenizer": origin.tokenizer,
        "hours": origin.hours,
        "cost_usd": origin.cost_usd,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _evaluation(evaluation: dict[str, Any], limit: int) -> dict[str, Any]:
    metrics = list(evaluation["metrics"].items())[:limit]
    return {
        "name": str(evaluation["suite"])[:63],
        "evaluation_observation": (
            f"{len(metrics)} of {len(evaluation['metrics'])} metrics with 95 % intervals"
        ),
        "metric_groups": [
            {
                "name": "metrics",
                "metric_data": [
                    {
                        "name": name[:255],
                        "type": "number",
                        "value": metric["value"],
                        "notes": f"95 % interval {metric['low']:.6g} to {metric['high']:.6g}, "
                        f"{metric['items']} items",
                    }
                    for name, metric in metrics
                ],
            }
        ],
    }
