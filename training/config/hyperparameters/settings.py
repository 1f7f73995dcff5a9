"""Schema of the settings that can be translated, with the defaults of Transformers and TRL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field


def _as_bool(value: Any) -> Any:
    """Return a boolean of a form field, which arrives as text, as a boolean."""
    texts = {"true": True, "false": False}
    return texts.get(value.strip().lower(), value) if isinstance(value, str) else value


def _as_lower(value: Any) -> Any:
    if value is False:
        return "no"  # an unquoted `no` in YAML
    return value.strip().lower() if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_as_bool)]
Strategy = Annotated[Literal["no", "none", "steps", "epoch", "best"], BeforeValidator(_as_lower)]


class _Section(BaseModel):
    """Section whose unknown keys are kept, so that they can be named."""

    model_config = ConfigDict(extra="allow", frozen=True)


class LoraSettings(_Section):
    """Arguments of PEFT's `LoraConfig`, under their full or their short names."""

    r: int = Field(default=8, gt=0)
    alpha: float = Field(default=8, gt=0, validation_alias=AliasChoices("lora_alpha", "alpha"))
    dropout: float = Field(
        default=0.0, ge=0, lt=1, validation_alias=AliasChoices("lora_dropout", "dropout")
    )
    target_modules: str | tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] | None = None
    fan_in_fan_out: Flag = False
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: Flag = False
    use_dora: Flag = False
    layers_to_transform: int | tuple[int, ...] | None = None
    layers_pattern: str | tuple[str, ...] | None = None
    init_lora_weights: bool | str = True
    task_type: str | None = None


class ModelSettings(_Section):
    """Arguments of `from_pretrained`."""

    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] = "flash_attention_2"
    use_cache: Flag = False
    revision: str | None = None
    trust_remote_code: Flag = False


class TrainerSettings(_Section):
    """Arguments of `TrainingArguments` and of TRL's `SFTConfig`."""

    num_train_epochs: float | None = Field(default=None, gt=0)
    max_steps: int = -1
    learning_rate: float | None = Field(default=None, gt=0)
    per_device_train_batch_size: int = Field(default=8, gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    warmup_steps: float = Field(default=0, ge=0)
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    lr_scheduler_type: str = "linear"
    optim: str = "adamw_torch"
    adam_beta1: float | None = None
    adam_beta2: float | None = None
    adam_epsilon: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    seed: int | None = None
    gradient_checkpointing: Flag = False
    fp16: Flag = False
    bf16: Flag = False
    logging_strategy: Strategy = "steps"
    logging_steps: float = Field(default=500, gt=0)
    eval_strategy: Strategy = Field(
        default="no", validation_alias=AliasChoices("eval_strategy", "evaluation_strategy")
    )
    eval_steps: float | None = Field(default=None, gt=0)
    save_strategy: Strategy | None = None
    save_steps: float = Field(default=500, gt=0)
    save_total_limit: int | None = Field(default=None, gt=0)
    early_stopping_patience: int | None = Field(default=None, gt=0)
    early_stopping_threshold: float = Field(default=0.0, ge=0)
    max_length: int | None = Field(
        default=None, validation_alias=AliasChoices("max_length", "max_seq_length")
    )
    packing: Flag = False
    completion_only_loss: Flag | None = None
    assistant_only_loss: Flag = False
    torch_compile: Flag = False


class Hyperparameters(_Section):
    """The whole file."""

    use_lora: Flag = False
    lora_config: LoraSettings = LoraSettings()
    merge_adapters: Flag | None = None
    sft_config: TrainerSettings = TrainerSettings()
    model_init_config: ModelSettings = ModelSettings()
    base_model: str | None = Field(
        default=None, validation_alias=AliasChoices("model_name_or_path", "base_model", "model_id")
    )
    instance_type: str | None = None
    instance_count: int | None = Field(default=None, gt=0)
