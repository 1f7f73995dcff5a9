"""Model of a run: its files, digests and origin, checked before it is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluation.results import EvaluationResult
from registry.errors import RegistrationRefused
from registry.evidence import (
    digest_problems,
    find_results,
    quality_problems,
    read_json,
    summary,
)
from registry.record import FileDigest, Provenance
from training.export.checksums import CHECKSUMS, checksums_of, differences_from, read_checksums
from training.export.managed_model import MANAGED_MODEL
from training.export.model_archive import sha256_of_file
from training.export.transformers_4 import FORMAT as TRANSFORMERS_4
from training.models.weights_digest import weights_digest
from training.run_folder import RunFolder

_EVIDENCE = ("job.yaml", "manifest.json", "evaluation.json", "plan.json", "model/README.md")
_CODE = ("temper", "commit", "python", "packages")


@dataclass(frozen=True)
class RunModel:
    """Model of a finished run.

    Attributes:
        run: Folder of the run; of a pipeline, that of the stage whose model it is.
        name: Name of the job.
        forms: Files of each form, by their path in it.
        folders: Folder of each form.
        evidence: Files of evidence, by their path in the run.
        evaluations: Results on each suite, for the record.
        provenance: Origin of the model.
        problems: What only a reason can override.
    """

    run: Path
    name: str
    forms: dict[str, dict[str, FileDigest]]
    folders: dict[str, Path]
    evidence: dict[str, FileDigest]
    evaluations: tuple[dict[str, Any], ...]
    provenance: Provenance
    problems: tuple[str, ...]


def read_run_model(folder: Path) -> RunModel:
    """Return the model of a run after checking that it is complete and unchanged.

    Raises:
        RegistrationRefused: The run has not finished, has no verified model, or a file was changed.
    """
    run = RunFolder(folder.resolve())
    problems = _unfinished(run)
    if problems:
        raise RegistrationRefused(str(folder), problems, overridable=False)
    # The model of a pipeline is a link to that of its last stage that trains.
    path = run.model.resolve().parent
    results, problems = find_results(path)
    if path != run.path:
        of_pipeline, more = find_results(run.path)
        results, problems = {**results, **of_pipeline}, problems + more
    folders = _form_folders(RunFolder(path))
    sums = {form: _checksums(place) for form, place in folders.items()}
    problems += _changed_files(path / "model", sums)
    weights = {
        form: weights_digest(place)
        for form, place in folders.items()
        if place.is_dir() and any(place.glob("*.safetensors"))
    }
    problems += digest_problems(results, weights)
    if problems:
        raise RegistrationRefused(str(folder), problems, overridable=False)
    evidence = _evidence(path, run.path, results)
    origin = _provenance(path, run.path, evidence["job.yaml"].sha256, weights)
    return RunModel(
        run=path,
        name=_name_of(run.path),
        forms={form: _with_sizes(folders[form], found) for form, found in sums.items()},
        folders=folders,
        evidence=evidence,
        evaluations=tuple(
            summary(result, evidence[name].sha256) for name, result in results.items()
        ),
        provenance=origin,
        problems=tuple(quality_problems(results, origin)),
    )


def _name_of(run: Path) -> str:
    """Return the name of the job of a run; of a stage, that of its pipeline."""
    return run.parents[2].name if run.parent.name == "stages" else run.parent.name


def _unfinished(run: RunFolder) -> list[str]:
    state = run.state
    if state is None:
        return [f"{run.path} is not the folder of a run. Name one, such as runs/NAME/latest"]
    if state != "finished":
        return [f"the run is {state}, not finished. Resume it, then register it"]
    if not any(run.model.glob("*.safetensors")) and not (run.model / MANAGED_MODEL).is_file():
        return ["the run has no model of its own in model/. `temper fetch RUN` brings it"]
    return []


def _form_folders(run: RunFolder) -> dict[str, Path]:
    """Return the folder of each form of a run's model; of a GGUF, the file."""
    if (run.model / MANAGED_MODEL).is_file():
        return {"managed": run.model}  # a provider keeps the weights
    is_adapter = (run.model / "adapter_config.json").exists()
    folders = {"adapter" if is_adapter else "safetensors": run.model}
    if run.merged.is_dir():
        folders["safetensors-merged" if not is_adapter else "safetensors"] = run.merged
    former = run.path / "export" / TRANSFORMERS_4
    if any(former.glob("*.safetensors")):
        folders[TRANSFORMERS_4] = former
    for path in sorted((run.path / "export").glob("*.gguf")):
        folders["gguf" if "gguf" not in folders else path.stem] = path
    return folders


def _checksums(place: Path) -> dict[str, str]:
    return checksums_of(place) if place.is_dir() else {place.name: sha256_of_file(place)}


def _with_sizes(place: Path, sums: Mapping[str, str]) -> dict[str, FileDigest]:
    root = place if place.is_dir() else place.parent
    return {name: FileDigest(sha, (root / name).stat().st_size) for name, sha in sums.items()}


def _changed_files(model: Path, sums: dict[str, dict[str, str]]) -> list[str]:
    """Return how a run's model differs from the checksums written when it was verified."""
    try:
        recorded = read_checksums(model)
    except ValueError as error:
        return [f"{error}. Train the run again, or restore the file"]
    if recorded is None:
        return [
            f"{model} has no {CHECKSUMS}, which a run writes when its saved weights have been "
            f"verified. Runs of earlier versions have none: train again"
        ]
    actual = next(iter(sums.values()))
    return [
        f"{model}: {difference}: the model was changed after it was verified. Restore the file"
        for difference in differences_from(recorded, actual)
    ]


def _evidence(
    path: Path, pipeline: Path, results: dict[str, EvaluationResult]
) -> dict[str, FileDigest]:
    found = {}
    for name in (*_EVIDENCE, *results):
        for root in (path, pipeline):
            if (root / name).is_file():
                file = root / name
                found[name] = FileDigest(sha256_of_file(file), file.stat().st_size)
                break
    return found


def _provenance(path: Path, pipeline: Path, job_sha256: str, weights: dict[str, str]) -> Provenance:
    """Return the origin of the model of a run.

    Args:
        path: Folder of the run; of a pipeline, that of the stage whose model it is.
        pipeline: Folder of the run or pipeline.
        job_sha256: Digest of the job file.
        weights: Digest of the weights of each form.
    """
    job = yaml.safe_load((path / "job.yaml").read_text(encoding="utf-8"))
    manifest, plan = read_json(path / "manifest.json"), read_json(path / "plan.json")
    base = job["model"]["source"]
    recorded = read_json(path / "model" / "base.json")
    digest = recorded.get("digest")
    if digest is None and any(Path(base).glob("*.safetensors")):
        digest = weights_digest(Path(base))
    hours = plan.get("measured", {}).get("hours")
    return Provenance(
        run="/".join(pipeline.parts[-4 if pipeline.parent.name == "stages" else -2 :]),
        base=base,
        base_digest=digest,
        tokenizer=manifest.get("tokenizer"),
        method=job["method"]["kind"],
        adapter=(job.get("adapter") or {}).get("kind"),
        data={k: manifest.get("data", {}).get(k) for k in ("train", "validation", "prepared")},
        job_sha256=job_sha256,
        code={name: manifest[name] for name in _CODE if name in manifest},
        seed=manifest.get("seed"),
        hours=hours,
        cost_usd=_cost(plan.get("predicted", {}), hours),
        weights=weights,
        mlflow_run=read_json(path / "mlflow.json").get("run_id"),
    )


def _cost(predicted: Mapping[str, Any], hours: float | None) -> float | None:
    """Return the cost of the measured hours at the price per hour of the plan."""
    try:
        price = predicted["cost_usd"]["high"] / predicted["hours"]["high"]
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return None if hours is None or not price else round(price * hours, 4)
