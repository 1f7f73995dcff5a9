"""Run exported tasks in Inspect with planted answers, and write what was asked and scored.

    python run_planted.py TASKS.py ANSWERS.json LOG.json

The interpreter needs inspect-ai. Nothing of Temper is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RATINGS = ["It is fine.\n[[4]]", "no verdict", "[[2]]"]
"""Replies of the judge, of which one cannot be used."""


def main(tasks: str, answers: Path, out: Path) -> None:
    """Write the messages and the metrics of each task."""
    from inspect_ai import eval as run_eval
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def planted(replies: list[str]) -> Any:
        outputs = [ModelOutput.from_content("mockllm/model", reply) for reply in replies]
        for output in outputs:  # Inspect would count tokens with a vocabulary that it downloads
            output.usage = ModelUsage(input_tokens=1, output_tokens=1)
        return get_model("mockllm/model", custom_outputs=outputs, memoize=False)

    result: dict[str, Any] = {}
    for name, replies in json.loads(answers.read_text("utf-8")).items():
        logs = run_eval(
            f"{tasks}@demo_{name}",
            model=planted(replies),
            model_roles={"grader": planted(RATINGS)},
            max_samples=1,
            log_dir=str(out.with_suffix("")),
        )
        log = logs[0]
        assert log.status == "success", log.error
        assert log.results is not None and log.samples is not None
        result[f"demo_{name}"] = {
            "asked": [
                [{"role": m.role, "content": m.text} for m in sample.messages[:-1]]
                for sample in log.samples
            ],
        }
        for score in log.results.scores:
            values = result[f"demo_{name}"].setdefault(score.scorer, {})
            values[score.name] = score.metrics[
                "mean" if "mean" in score.metrics else "accuracy"
            ].value
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
