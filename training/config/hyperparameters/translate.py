"""Translation of validated settings into the sections of a job, with notes on what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from training.config.hyperparameters.settings import (
    Hyperparameters,
    LoraSettings,
    TrainerSettings,
)
from training.config.lora_init import UNSUPPORTED

_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
_SCHEDULERS = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "polynomial": "polynomial",
    "inverse_sqrt": "inverse_sqrt",
    "warmup_stable_decay": "warmup_stable_decay",
}
# Arguments of the same name and meaning in `train:`.
_SAME = ("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm", "seed")

_INITS = {
    "true": "zero",
    "gaussian": "gaussian",
    "orthogonal": "orthogonal",
    "pissa": "pissa",
    "olora": "olora",
}
# Arguments that change nothing that is learned.
_WITHOUT_EFFECT = {
    "output_dir": "a run's folder is runs/NAME/ID",
    "report_to": "metrics go to the run folder and to MLflow (tracking.mlflow)",
    "dataloader_num_workers": "rows are tokenized before training (data.workers)",
    "per_device_eval_batch_size": "evaluation uses train.micro_batch_size",
    "ddp_find_unused_parameters": "not needed",
    "load_best_model_at_end": "train.keep: best is the default with train.early_stopping",
    "push_to_hub": "a run never uploads to the Hub",
    "use_cache": "training never keeps a cache of keys and values",
    "task_type": "the method determines the task",
    "dataset_text_field": "columns are detected; data.train.columns renames them",
}


@dataclass
class Translation:
    """A job document, and what the user should know about it.

    Attributes:
        document: Sections of a job file.
        notes: Sentences about settings that were not carried over, or carried over with a change.
    """

    document: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def translate(settings: Hyperparameters, devices: int) -> Translation:
    """Return the job document of `settings`.

    Args:
        settings: The validated settings.
        devices: Accelerators of the original run, by which the global batch size is computed.
    """
    result = Translation()
    _model(settings, result)
    _trainer(settings.sft_config, devices, result)
    if settings.use_lora:
        _lora(settings.lora_config, result)
    elif settings.lora_config.model_fields_set:
        result.notes.append("lora_config has no effect without use_lora: true, and is left out")
    if settings.merge_adapters and not settings.use_lora:
        result.notes.append("merge_adapters has no effect without use_lora: true, and is left out")
    elif settings.merge_adapters is not None:
        result.document["export"] = "merged" if settings.merge_adapters else "adapter"
    _resources(settings, result)
    for section, name in (
        (settings, ""),
        (settings.lora_config, "lora_config."),
        (settings.sft_config, "sft_config."),
        (settings.model_init_config, "model_init_config."),
    ):
        _name_unknown(section, name, result)
    return result


def _model(settings: Hyperparameters, result: Translation) -> None:
    given = settings.model_init_config
    model: dict[str, Any] = {}
    if settings.base_model:
        model["source"] = settings.base_model
    model["attention"] = given.attn_implementation
    if given.revision:
        model["revision"] = given.revision
    if given.trust_remote_code:
        model["trust_remote_code"] = True
    result.document["model"] = model
    flash = given.attn_implementation == "flash_attention_2"
    trainer = settings.sft_config
    if flash and "attn_implementation" not in given.model_fields_set:
        result.notes.append(
            "model.attention and precision are the defaults of the original settings, "
            "flash_attention_2 and bf16; a CPU needs attention: sdpa"
        )
    if flash and trainer.fp16:
        result.notes.append("flash_attention_2 forces bf16 in the original; fp16 is not carried")
    precision = "bf16" if flash or trainer.bf16 else "fp16" if trainer.fp16 else "fp32"
    result.document["precision"] = precision


def _trainer(given: TrainerSettings, devices: int, result: Translation) -> None:
    train: dict[str, Any] = {}
    if given.max_steps > 0:
        train["max_steps"] = given.max_steps
    elif given.num_train_epochs is not None:
        train["num_train_epochs"] = given.num_train_epochs
    micro = given.per_device_train_batch_size
    train["global_batch_size"] = micro * given.gradient_accumulation_steps * devices
    train["micro_batch_size"] = micro
    if given.learning_rate is not None:
        train["learning_rate"] = given.learning_rate
    else:
        result.notes.append("learning_rate is not given; the job has Temper's default")
    _schedule(given, train, result)
    train |= {name: getattr(given, name) for name in _SAME if getattr(given, name) is not None}
    for name, value in (
        ("gradient_checkpointing", given.gradient_checkpointing),
        ("compile", given.torch_compile),
    ):
        if value:
            train[name] = True
    if given.early_stopping_patience is not None:
        train["early_stopping"] = {
            "patience": given.early_stopping_patience,
            "threshold": given.early_stopping_threshold,
        }
    result.document["train"] = train
    _intervals(given, result)
    _method_and_data(given, result)


def _schedule(given: TrainerSettings, train: dict[str, Any], result: Translation) -> None:
    """Add the learning-rate schedule and the optimizer, whose defaults are not Temper's."""
    if given.lr_scheduler_type in _SCHEDULERS:
        train["lr_scheduler"] = _SCHEDULERS[given.lr_scheduler_type]
    else:
        result.notes.append(
            f"lr_scheduler_type {given.lr_scheduler_type} is not carried: the schedules are "
            f"{', '.join(dict.fromkeys(_SCHEDULERS.values()))}. The job has Temper's default"
        )
    if given.optim in _OPTIMIZERS:
        train["optimizer"] = _OPTIMIZERS[given.optim]
    else:
        result.notes.append(
            f"optim {given.optim} is not carried: the optimizers are "
            f"{', '.join(dict.fromkeys(_OPTIMIZERS.values()))}. The job has Temper's default"
        )
    # A value of warmup_steps below 1 is a share, as in Transformers 5; warmup_steps wins.
    if given.warmup_steps >= 1:
        train["warmup"] = f"{int(given.warmup_steps)} steps"
    else:
        train["warmup"] = f"{100 * (given.warmup_steps or given.warmup_ratio):g}%"
    if given.lr_scheduler_type == "constant" and train["warmup"] != "0%":
        train["warmup"] = "0%"
        result.notes.append("lr_scheduler_type constant has no warm-up; constant_with_warmup has")


def _intervals(given: TrainerSettings, result: Translation) -> None:
    train = result.document["train"]
    if "logging_strategy" in given.model_fields_set or "logging_steps" in given.model_fields_set:
        train["log_every"] = _interval(given.logging_strategy, given.logging_steps, result)
    # As in Transformers, `eval_steps` defaults to `logging_steps`.
    every = _interval(given.eval_strategy, given.eval_steps or given.logging_steps, result)
    result.document["evaluate"] = {"every": every}
    checkpoint: dict[str, Any] = {}
    if given.save_strategy in ("no", "none"):
        result.notes.append("save_strategy no is not carried: a run always saves checkpoints")
    elif given.save_strategy is not None:
        checkpoint["every"] = _interval(given.save_strategy, given.save_steps, result)
    if given.save_total_limit is not None:
        checkpoint["keep"] = given.save_total_limit
    if checkpoint:
        result.document["checkpoint"] = checkpoint


def _interval(strategy: str, steps: float, result: Translation) -> str:
    if strategy in ("no", "none"):
        return "none"
    if strategy == "epoch":
        return "1 epoch"
    if steps < 1:
        result.notes.append(f"{steps:g} of the run as an interval is not carried; it is 50 steps")
        return "50 steps"
    return f"{int(steps)} steps"


def _method_and_data(given: TrainerSettings, result: Translation) -> None:
    method = {"kind": "sft"}
    if given.assistant_only_loss:
        method["loss_on"] = "assistant"
    elif given.completion_only_loss is not None:
        method["loss_on"] = "completion" if given.completion_only_loss else "all"
    result.document["method"] = method
    data: dict[str, Any] = {}
    if given.max_length is not None:
        data["max_length"] = given.max_length
    if given.packing:
        data["packing"] = True
    result.document["data"] = data


def _lora(given: LoraSettings, result: Translation) -> None:
    adapter: dict[str, Any] = {
        "kind": "lora",
        "r": given.r,
        "alpha": given.alpha,
        "dropout": given.dropout,
    }
    if given.target_modules is None:
        result.notes.append(
            "target_modules is not given: the job adapts all linear layers. PEFT's default "
            "depends on the architecture, [q_proj, v_proj] for Llama"
        )
    else:
        modules = given.target_modules
        adapter["target_modules"] = modules if isinstance(modules, str) else list(modules)
    if given.modules_to_save:
        adapter["modules_to_save"] = list(given.modules_to_save)
    # PEFT takes an empty list for all layers.
    if given.layers_to_transform not in (None, ()):
        layers = given.layers_to_transform
        adapter["layers_to_transform"] = layers if isinstance(layers, int) else list(layers)
        if given.layers_pattern:
            names = given.layers_pattern
            adapter["layers_pattern"] = [names] if isinstance(names, str) else list(names)
    for name in ("fan_in_fan_out", "use_rslora", "use_dora"):
        if getattr(given, name):
            adapter[name] = True
    if given.bias != "none":
        adapter["bias"] = given.bias
    _lora_init(given, adapter, result)
    result.document["adapter"] = adapter


def _lora_init(given: LoraSettings, adapter: dict[str, Any], result: Translation) -> None:
    init = str(given.init_lora_weights).lower()
    if init.startswith("pissa_niter_"):
        result.notes.append(f"init_lora_weights {init} is carried as pissa, which chooses the SVD")
        init = "pissa"
    if init not in _INITS:
        reason = f": it {UNSUPPORTED[init]}" if init in UNSUPPORTED else ""
        result.notes.append(
            f"init_lora_weights {init} is not carried{reason}; the job has init: zero"
        )
    elif init != "true":
        adapter["init"] = _INITS[init]


def _resources(settings: Hyperparameters, result: Translation) -> None:
    resources: dict[str, Any] = {}
    if settings.instance_type:
        resources["instance"] = settings.instance_type
    if settings.instance_count:
        resources["count"] = settings.instance_count
    if resources:
        result.document["resources"] = resources


def _name_unknown(section: BaseModel, prefix: str, result: Translation) -> None:
    for name, value in (section.model_extra or {}).items():
        reason = _WITHOUT_EFFECT.get(name, "no key of a job corresponds to it")
        result.notes.append(f"{prefix}{name}: {value!r} is not carried: {reason}")
