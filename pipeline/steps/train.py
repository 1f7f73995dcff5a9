"""Step that trains a model in a run folder named by the digest of what it reads."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import TrainStep
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of, path_digest
from pipeline.job_overrides import override_words
from pipeline.state import StepResult
from training import __version__
from training.config import Job, Pipeline, load_job
from training.config.input_paths import require_inputs
from training.config.locations import existing_path, locations
from training.models.weights_digest import weights_digest
from training.run_folder import RunFolder, resolved_yaml

_KEY_CHARACTERS = 12


class TrainRunner:
    """Runs a training job; the same inputs resume the same run folder."""

    def key(self, context: PipelineContext, step: TrainStep) -> str:
        """Return the digest of the job, and of the files and models that it reads.

        What another step made counts by its content, not by its address.
        """
        job = self.job(context, step)
        used = (*step.data.values(), *step.model.values())
        made = {context.facts(name)["folder"]: context.results[name].digest for name in used}
        text = resolved_yaml(job)
        for folder, digest in made.items():
            text = text.replace(folder, digest)
        inputs = {}
        for location in locations(job):
            path = existing_path(location.value)
            if path is not None and location.value not in made:
                inputs[location.path] = path_digest(path)
        return digest_of(["train", __version__, text, inputs])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return whether the run folder has the model."""
        run = RunFolder(Path(result.facts["folder"]))
        return run.state == "finished" and any(run.model.glob("*.safetensors"))

    def run(self, context: PipelineContext, step: TrainStep) -> StepOutput:
        """Train the model, or resume its run.

        Raises:
            TemperError: The job is invalid, or an input does not exist.
        """
        job = self.job(context, step)
        require_inputs(job, context.pipeline.path.parent, here=True)
        file = context.place / "job.yaml"
        file.write_text(resolved_yaml(job), encoding="utf-8")
        run = context.runs / job.name / context.place.name[:_KEY_CHARACTERS]
        context.say(f"  $ temper train {file}")
        context.commands.run(context.log, "-m", "training", str(file), "--folder", str(run))
        model = RunFolder(run).model
        return StepOutput(
            weights_digest(model.resolve()),
            {"folder": str(run), "run": f"{job.name}/{run.name}"},
            str(model),
        )

    def job(self, context: PipelineContext, step: TrainStep) -> Job | Pipeline:
        """Return the job with the data and the models of the steps before.

        Raises:
            TemperError: The job is invalid.
        """
        path = context.pipeline.file(step.job)
        made = {
            **{key: context.facts(name)["folder"] for key, name in step.data.items()},
            **{
                key: str(Path(context.facts(name)["folder"], "model"))
                for key, name in step.model.items()
            },
        }
        return load_job(path, " ".join(override_words({**step.set, **made})))
