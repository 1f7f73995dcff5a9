"""Pipeline of one run: tokenizer, data, model, adapter, trainer, training, saving, verification."""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock
from transformers import PreTrainedTokenizerBase, TrainingArguments

import training.adapters.composition.tuner  # noqa: F401  (PEFT then knows these types)
from catalog.accelerators import peak_flops
from training.adapters.expert_parameters import expert_reach
from training.branching import read_stop_step
from training.config import Job
from training.config.model import trains_tokenizer
from training.config.static_shapes import static_shapes
from training.console import say
from training.data.collators import collator_for
from training.data.prepare import Prepared, iter_texts, prepare
from training.data.storage.stream import StreamTable
from training.data.storage.table import RowTable
from training.data.tokenization.mask_preview import render_text
from training.evaluation.evaluator import Evaluator
from training.evaluation.forgetting import check_forgetting
from training.export.model_saver import ModelSaver
from training.guards import guards_for
from training.input_digests import check_same_inputs, input_digests
from training.lora_rank_search import settled
from training.models.flops import device_name, flops_per_token
from training.models.load import load_model, save_initial_model
from training.models.tokenizer import (
    load_tokenizer,
    separate_pad_from_eos,
    train_tokenizer,
)
from training.models.worst_case_batch import worst_case_loss
from training.report.run_data import read_run_data
from training.report.warnings import overfitting_warnings
from training.run_folder import RunFolder
from training.tracking.manifest import write_manifest
from training.tracking.metrics_writer import MetricsWriter
from training.tracking.progress_lines import evaluation_line
from training.trainer.arguments import training_arguments
from training.trainer.batch_size_finder import find_micro_batch_size
from training.trainer.checkpoints import CheckpointManager, read_metadata
from training.trainer.compile import compile_layers
from training.trainer.context import TrainerContext
from training.trainer.distributed import ControlPlane, World, detect_world, init_process_group
from training.trainer.grouped_order import GroupedOrder
from training.trainer.sample_order import RolloutOrder, SampleOrder
from training.trainer.seed import seed_everything
from training.trainer.signals import StopSignal
from training.trainer.triggers import IntervalTrigger


def run(folder: RunFolder) -> None:
    """Train the job in `folder` to its end, from its newest valid checkpoint if there is one.

    Raises:
        TemperError: The run failed or was stopped.
    """
    job = folder.job
    assert isinstance(job, Job), "a pipeline is run stage by stage"
    job = settled(job, folder.path)
    with StopSignal() as stop:
        world = detect_world()
        _seed(job)
        if not job.method.trains:
            _import(job.method.impl)(job, folder)
            return
        tokenizer = _tokenizer(job, folder)
        if job.method.head == "score":
            separate_pad_from_eos(tokenizer)
        data = prepare(job, tokenizer, cache_dir=folder.cache, run_dir=folder.path)
        if world.is_main_process:
            _print_summary(data)

        control = _join_processes(job, world)
        checkpoints = CheckpointManager(folder.checkpoints, job.checkpoint.keep, control)
        inputs = input_digests(job, data, tokenizer)
        checkpoint, metadata = _resume_point(checkpoints, inputs)
        order = _order(job, data, metadata)
        arguments = partial(
            training_arguments,
            job,
            output_dir=folder.checkpoints,
            max_steps=order.max_steps,
            world_size=world.size,
            device_type=world.device.type,
            own_storage=world.nodes.own_storage,
        )
        # Transformers shards weights as it reads them (ZeRO 3) only while `TrainingArguments` with
        # the DeepSpeed configuration is alive, so it is kept until the trainer has its own.
        zero3_context = TrainingArguments(**arguments(micro_batch_size=1))
        _seed(job)
        model = _model(job, tokenizer, folder, world)
        shapes = static_shapes(job, world.device.type)
        collate = collator_for(job.method.rows, tokenizer.pad_token_id, job.data, shapes)
        if job.train.compile:
            compile_layers(model)
        # Devices of different nodes may have different free memory.
        micro_batch_size = min(
            control.all_gather(_micro_batch_size(job, model, collate, world, folder, data))
        )
        evaluator = Evaluator(job, tokenizer, data, control, collate, micro_batch_size, folder)
        metrics_writer = MetricsWriter(
            folder.path,
            IntervalTrigger(job.train.log_every, order.steps_per_epoch),
            order.max_steps,
            flops_per_token=flops_per_token(model, job.data.max_length),
            peak_flops=world.size * peak_flops(device_name(), job.precision),
        )
        setup = TrainerContext(
            job=job,
            world=world,
            control=control,
            folder=folder.path,
            order=order,
            table=data.train,
            validation=data.validation,
            lengths=_lengths(job, data),
            collate=collate,
            row_tokenizer=data.row_tokenizer,
            micro_batch_size=micro_batch_size,
            checkpoints=checkpoints,
            stop_signal=stop,
            input_digests=inputs,
            load_initial_model=partial(_initial_model, job, tokenizer, folder, world),
            callbacks=[
                *guards_for(
                    job,
                    order.steps_per_epoch,
                    order.max_steps,
                    control,
                    static=shapes is not None,
                ),
                *([metrics_writer] if world.is_main_process else []),
                evaluator,
            ],
            evaluate=evaluator.evaluate_held_out if data.validation is not None else None,
            shapes=shapes,
            stop_step=read_stop_step(),
        )
        write_manifest(folder.path, job, data, model, setup, tokenizer)
        _seed(job)
        trainer = _import(job.method.impl)(
            model,
            tokenizer,
            _for_trainer(data.train),
            arguments(micro_batch_size=micro_batch_size),
            setup,
        )
        del zero3_context
        evaluator.trainer = trainer
        saver = ModelSaver(job, tokenizer, data.row_tokenizer, folder, control).rehearse(
            trainer.trained_model
        )
        stop.defer(True)
        with metrics_writer if world.is_main_process else nullcontext():
            _train(job, trainer, evaluator, checkpoint, metadata)
        stop.defer(False)
        _print_held_out(evaluator.evaluate_after(), trainer, order.max_steps)
        saver.save(trainer, on_rounded=evaluator.evaluate_rounded)
        _finish(job, metrics_writer, folder, control)


def _resume_point(
    checkpoints: CheckpointManager, inputs: dict[str, str | None]
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the checkpoint to resume from and its metadata, if there is one.

    Raises:
        CheckpointError: It was trained on other inputs.
    """
    checkpoint = checkpoints.latest_valid()
    if checkpoint is None:
        return None, None
    metadata = read_metadata(checkpoint, checkpoints.control.world.nodes)
    check_same_inputs(checkpoint, metadata, inputs)
    return checkpoint, metadata


def _print_summary(data: Prepared) -> None:
    """Print a summary of the data, and a sample row."""
    for line in data.report.summary():
        say(line)
    say(render_text(data.report.mask_preview[:1], ansi=sys.stdout.isatty(), limit=400))


def _seed(job: Job) -> None:
    """Seed all random generators, before each part that draws from them.

    A part then does not depend on how many numbers an earlier one drew, which a resumed run, with
    its caches filled, would not draw.
    """
    seed_everything(job.train.seed, deterministic=job.train.deterministic)


def _micro_batch_size(
    job: Job, model: Any, collate: Any, world: World, folder: RunFolder, data: Prepared
) -> int:
    length = job.data.max_length
    if job.method.max_new_tokens:
        assert isinstance(data.train, RowTable), "checked with the job"
        length = max(data.train.lengths) + job.method.max_new_tokens
    row_tokens = sum(collate.max_length_example(length)["seq_lengths"])
    attempt = partial(worst_case_loss, job, model, collate, world.device, length)
    result_file = folder.path / "probe.json"
    return find_micro_batch_size(job, model, world, attempt, result_file, row_tokens=row_tokens)


def _lengths(job: Job, data: Prepared) -> list[int] | None:
    """Return the lengths of the rows if rows of similar length should be batched together."""
    if job.data.packing or not isinstance(data.train, RowTable):
        return None
    return data.train.lengths


def _join_processes(job: Job, world: World) -> ControlPlane:
    """Join the process group of the run."""
    init_process_group(world, zero=job.sharding.zero)
    if job.sharding.offload == "nvme":
        # Imported here: only such a job loads DeepSpeed's builders.
        from training.trainer.nvme import load_async_io

        load_async_io(world)
    return ControlPlane(world)


def _train(
    job: Job,
    trainer: Any,
    evaluator: Evaluator,
    checkpoint: Path | None,
    metadata: dict[str, Any] | None,
) -> None:
    """Train the model, or only evaluate it if the composition has no trainable parameters.

    Args:
        job: The job.
        trainer: Trainer of the method.
        evaluator: Evaluator of the run.
        checkpoint: Checkpoint to resume from; None for a new run.
        metadata: Metadata of the checkpoint.
    """
    if job.adapter is None or job.adapter.learns:
        trainer.run(checkpoint, metadata)
        return
    say("Nothing in this composition is trained: it is compared with its base, and saved.")
    with trainer.trained_model.disable_adapter():
        evaluator.on_start(trainer.model, 0)


def _print_held_out(results: dict[str, Any], trainer: Any, max_steps: int) -> None:
    """Print the held-out metrics of the trained model, unless they are the last that were printed.

    The last value in the log is the objective of a search by SageMaker's tuning service.
    """
    printed = trainer.evaluated_at >= max_steps and trainer.restored_step is None
    if trainer.setup.world.is_main_process and "validation" in results and not printed:
        say(evaluation_line(max_steps, max_steps, results["validation"]))


def _finish(
    job: Job, metrics_writer: MetricsWriter, folder: RunFolder, control: ControlPlane
) -> None:
    if control.world.is_main_process:
        metrics_writer.write_measured()
        for warning in overfitting_warnings(read_run_data(folder.path)):
            say(warning)
    check_forgetting(job, folder.path, control)
    control.close()


def _for_trainer(table: RowTable | StreamTable) -> datasets.Dataset:
    """Return the data set that a TRL trainer requires; training itself reads the table."""
    if isinstance(table, RowTable):
        return table.dataset
    return datasets.Dataset.from_list(table.window()[:1])


def _order(job: Job, data: Prepared, metadata: dict[str, Any] | None) -> SampleOrder:
    """Return the order of rows, truncated if early stopping had already ended the run."""
    order = _full_order(job, data)
    if metadata and metadata["stalled"]:
        return replace(order, total_rows=metadata["step"] * order.global_batch_size)
    return order


def _full_order(job: Job, data: Prepared) -> SampleOrder:
    if isinstance(data.train, StreamTable):
        assert job.train.max_steps is not None, "checked with the job"
        size, rows = job.train.global_batch_size, job.train.max_steps * job.train.global_batch_size
        return SampleOrder(rows, size, rows, job.train.seed, shuffle=False)
    order = SampleOrder.for_run(
        len(data.train),
        global_batch_size=job.train.global_batch_size,
        epochs=job.train.num_train_epochs,
        max_steps=job.train.max_steps,
        seed=job.train.seed,
        shuffle=job.data.shuffle,
    )
    if answers := job.method.answers_per_prompt:
        return GroupedOrder.from_order(order, answers, by_epochs=job.train.max_steps is None)
    rounds = job.method.rollout_schedule(order.global_batch_size)
    return (
        RolloutOrder.from_order(order, *rounds, by_epochs=job.train.max_steps is None)
        if rounds
        else order
    )


def _tokenizer(job: Job, folder: RunFolder) -> PreTrainedTokenizerBase:
    """Return the tokenizer; one process trains it if the job has none."""
    if not trains_tokenizer(job.model):
        return load_tokenizer(job.model)
    assert job.model.scratch is not None and job.model.scratch.vocab_size is not None
    trained = folder.path / "tokenizer"
    with FileLock(folder.path / ".tokenizer.lock"):
        if not trained.exists():
            train_tokenizer(iter_texts(job), job.model.scratch.vocab_size, trained)
    return load_tokenizer(job.model.model_copy(update={"tokenizer": str(trained)}))


def _initial_model(
    job: Job, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, world: World
) -> Any:
    """Return the initial model, without an adapter."""
    job = save_initial_model(job, tokenizer, folder.path / "start")
    return load_model(job, tokenizer, world.device)


def _model(job: Job, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, world: World) -> Any:
    model = _initial_model(job, tokenizer, folder, world)
    if job.adapter is None:
        return model
    adapted = _import(job.adapter.impl)(
        model, job.adapter, tokenizer=tokenizer, max_length=job.data.max_length
    )
    if world.is_main_process and (sentence := expert_reach(adapted)):
        say(sentence)
    return adapted


def _import(impl: str) -> Any:
    module, _, name = impl.partition(":")
    return getattr(importlib.import_module(module), name)
