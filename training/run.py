"""The whole story: job, tokenizer, data, model, adapter, method, train, save, verify, report."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import datasets
from filelock import FileLock
from transformers import PreTrainedTokenizerBase, TrainingArguments

from training.config import Job
from training.data.collate import Collator
from training.data.prepare import Prepared, iter_texts, prepare
from training.data.stream import StreamTable
from training.data.table import RowTable
from training.engine.arguments import training_arguments
from training.engine.cadence import Cadence
from training.engine.checkpoints import Vault, read_facts
from training.engine.interrupt import StopSignal
from training.engine.loop import Setup
from training.engine.order import Order
from training.engine.probe import find_micro_batch_size
from training.engine.seed import seed_everything
from training.engine.world import ControlPlane, World, join, read_world
from training.evaluate.examine import Examination
from training.export.save import save_model
from training.guards import guards_for
from training.models.load import load_model, save_scratch
from training.models.longest import longest_rows_loss
from training.models.tokenizer import load_tokenizer, needs_training, train_tokenizer
from training.report.manifest import write_manifest
from training.report.record import Record
from training.runfolder import RunFolder


def run(folder: RunFolder) -> None:
    """Train the job in `folder` to its end, from its newest good checkpoint if it has one.

    Raises:
        TemperError: Anything that stopped it, explained.
    """
    job = folder.job
    assert isinstance(job, Job), "a pipeline is run stage by stage"
    with StopSignal() as stop:
        world = read_world()
        control = ControlPlane(world)
        seed_everything(job.train.seed, deterministic=job.train.deterministic)
        tokenizer = _tokenizer(job, folder)
        data = prepare(job, tokenizer, cache_dir=folder.cache, run_dir=folder.path)

        order = _order(job, data)
        arguments = partial(
            training_arguments,
            job,
            output_dir=folder.checkpoints,
            world_size=world.size,
            device_type=world.device.type,
        )
        join(world, zero=job.sharding.zero)
        # Held while the model loads: tells Transformers to shard weights as it reads them.
        ground = TrainingArguments(**arguments(max_steps=order.max_steps, micro_batch_size=1))
        vault = Vault(folder.checkpoints, job.checkpoint.keep, control)
        checkpoint = vault.newest_good()
        facts = read_facts(checkpoint) if checkpoint else None
        if facts and facts["stalled"]:
            # Early stopping had ended the run: nothing is left to train.
            order = replace(order, total_rows=facts["step"] * order.global_batch_size)

        seed_everything(job.train.seed, deterministic=job.train.deterministic)
        model = _model(job, tokenizer, folder, world)
        collate = Collator(
            tokenizer.pad_token_id, packed=job.data.packing, max_length=job.data.max_length
        )
        micro = find_micro_batch_size(
            job,
            model,
            world,
            partial(longest_rows_loss, model, collate, world.device, job.data.max_length),
            folder.path / "probe.json",
        )
        job = job.model_copy(
            update={"train": job.train.model_copy(update={"micro_batch_size": micro})}
        )
        examination = Examination(
            job, tokenizer, data, control, folder=folder.path, cache_dir=folder.cache
        )
        lengths = None
        if isinstance(data.train, RowTable) and not job.data.packing:
            lengths = data.train.lengths
        record = Record(
            folder.path,
            Cadence(job.train.log_every, order.num_rows / order.global_batch_size),
            order.max_steps,
        )
        setup = Setup(
            job=job,
            world=world,
            control=control,
            order=order,
            table=data.train,
            lengths=lengths,
            collate=collate,
            micro_batch_size=micro,
            vault=vault,
            stop=stop,
            watchers=[
                *guards_for(job, order.num_rows / order.global_batch_size, control),
                *([record] if world.is_first else []),
                examination,
            ],
            evaluate=examination.held_out if data.validation is not None else None,
        )
        write_manifest(folder.path, job, data, model, setup, tokenizer)
        seed_everything(job.train.seed, deterministic=job.train.deterministic)
        build = _import(job.method.impl)
        trainer = build(
            model,
            tokenizer,
            _for_trainer(data.train),
            arguments(max_steps=order.max_steps, micro_batch_size=micro),
            setup,
        )
        examination.trainer = trainer
        del ground
        stop.wait_for_the_loop(True)
        with record:
            trainer.run(checkpoint, facts)
        stop.wait_for_the_loop(False)
        examination.after()
        save_model(trainer, tokenizer, folder.model, control)


def _for_trainer(table: RowTable | StreamTable) -> datasets.Dataset:
    """Return the rows as the data set that a TRL trainer insists on; the loop reads the table."""
    if isinstance(table, RowTable):
        return table.dataset
    return datasets.Dataset.from_list(table.window()[:1])


def _order(job: Job, data: Prepared) -> Order:
    if isinstance(data.train, StreamTable):
        assert job.train.max_steps is not None, "checked with the job"
        size, rows = job.train.global_batch_size, job.train.max_steps * job.train.global_batch_size
        return Order(rows, size, rows, job.train.seed, shuffle=False)
    return Order.of(
        len(data.train),
        global_batch_size=job.train.global_batch_size,
        epochs=job.train.num_train_epochs,
        max_steps=job.train.max_steps,
        seed=job.train.seed,
        shuffle=job.data.shuffle,
    )


def _tokenizer(job: Job, folder: RunFolder) -> PreTrainedTokenizerBase:
    """Return the tokenizer; one process trains it where the job starts from nothing."""
    if not needs_training(job.model):
        return load_tokenizer(job.model)
    assert job.model.scratch is not None and job.model.scratch.vocab_size is not None
    made = folder.path / "tokenizer"
    with FileLock(folder.path / ".tokenizer.lock"):
        if not made.exists():
            train_tokenizer(iter_texts(job), job.model.scratch.vocab_size, made)
    return load_tokenizer(job.model.model_copy(update={"tokenizer": str(made)}))


def _model(job: Job, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, world: World) -> Any:
    job = save_scratch(job, tokenizer, folder.path / "start")
    model = load_model(job, tokenizer, world.device)
    if job.adapter is None:
        return model
    return _import(job.adapter.impl)(model, job.adapter)


def _import(impl: str) -> Any:
    module, _, name = impl.partition(":")
    return getattr(importlib.import_module(module), name)
