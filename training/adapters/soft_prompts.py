"""Soft prompts: trained embeddings before a row, or trained keys and values before its own.

PEFT creates, saves and loads them. This module makes such a model behave like any other:
- its outputs have the length of its inputs, so that losses and masks need no offset;
- position ids, packed or not, count from the first token after the virtual tokens;
- a prefix works with gradient checkpointing, for which Transformers drops any writable cache;
- the encoder that computes the virtual tokens (an MLP or LSTM) is saved too, so that training can
  resume from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, PreTrainedModel

from training.errors import ModelError

ENCODER = "prompt_encoder.safetensors"
"""File of the trained encoder in an adapter's folder; PEFT saves only the encoder's output."""
_IGNORE = -100
_NAME = "default"


class SoftPromptModel(PeftModelForCausalLM):
    """Causal language model with virtual tokens before its input.

    Args:
        model: The base model.
        config: PEFT's configuration of the soft prompt.
    """

    def __init__(self, model: PreTrainedModel, config: PeftConfig, *args: Any, **kwargs: Any):
        super().__init__(model, config, *args, **kwargs)
        self._gathered: dict[str, torch.Tensor] | None = None

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **rest: Any,
    ) -> Any:
        """Return the base model's output for the rows, without the virtual tokens.

        Args:
            input_ids: Token ids, `[batch, length]`.
            labels: Labels, `[batch, length]`; -100 is ignored.
            position_ids: Positions without the virtual tokens, `[batch, length]`.
            attention_mask: 1 for tokens and 0 for padding, `[batch, length]`.
            rest: Passed to the base model.
        """
        assert input_ids is not None, "input_ids are required"
        virtual = self.get_prompt(batch_size=len(input_ids))
        number = self.active_peft_config.num_virtual_tokens
        if labels is not None:
            # Without virtual tokens nothing precedes a row's first token and it is never a target.
            # Here the last virtual token precedes it: ignore it, so that losses stay comparable.
            labels = labels.clone()
            labels[:, 0] = _IGNORE
            rest["labels"] = labels
        if attention_mask is not None:
            rest["attention_mask"] = _prepend(attention_mask, number, 1)
        if isinstance(virtual, DynamicCache):
            if position_ids is not None:
                rest["position_ids"] = position_ids + number
            rest["past_key_values"] = _PrefixCache(virtual)
            return self.base_model(input_ids=input_ids, **rest)
        if position_ids is not None:
            prompt = torch.arange(number, device=position_ids.device).expand(len(input_ids), -1)
            rest["position_ids"] = torch.cat([prompt, position_ids + number], dim=1)
        if labels is not None:
            rest["labels"] = _prepend(labels, number, _IGNORE)
        rows = self.word_embeddings(input_ids)
        embeddings = torch.cat([virtual.to(rows.dtype), rows], dim=1)
        return _drop_virtual(self.base_model(inputs_embeds=embeddings, **rest), number)

    def get_prompt_embedding_to_save(self, adapter_name: str) -> torch.Tensor:
        """Return the encoder's output, computed from gathered weights if they are sharded."""
        if self._gathered is None:
            return super().get_prompt_embedding_to_save(adapter_name)
        config = self.peft_config[adapter_name]
        encoder = type(self.prompt_encoder[adapter_name])
        prefix = f"prompt_encoder.{adapter_name}."
        state = {n.removeprefix(prefix): t for n, t in self._gathered.items() if prefix in n}
        if set(state) == {"embedding.weight"}:
            return state["embedding.weight"].detach().cpu()
        copy = encoder(config)
        copy.load_state_dict({name: tensor.float().cpu() for name, tensor in state.items()})
        with torch.no_grad():
            return copy(self.prompt_tokens[adapter_name][: config.num_virtual_tokens])

    def save_pretrained(self, save_directory: str, state_dict: Any = None, **kwargs: Any) -> None:
        """Save as PEFT does, and also the encoder."""
        full_state = self.state_dict() if state_dict is None else state_dict
        encoder = {n: t for n, t in full_state.items() if n.startswith("prompt_encoder.")}
        self._gathered = encoder
        try:
            super().save_pretrained(save_directory, state_dict=full_state, **kwargs)
        finally:
            self._gathered = None
        tensors = {n.replace(f".{_NAME}.", ".", 1): t.contiguous() for n, t in encoder.items()}
        save_file(tensors, Path(save_directory) / ENCODER, metadata={"format": "pt"})

    def load_adapter(self, model_id: str, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Load an adapter from a folder; reload an existing one from the encoder's file.

        Args:
            model_id: The folder.
            adapter_name: PEFT's name of the adapter.
            args: Passed to PEFT.
            kwargs: Passed to PEFT.
        """
        file = Path(model_id) / ENCODER
        if adapter_name not in self.peft_config or not file.exists():
            return super().load_adapter(model_id, adapter_name, *args, **kwargs)
        tensors = load_file(file)
        state = {name.removeprefix("prompt_encoder."): t for name, t in tensors.items()}
        self.prompt_encoder[adapter_name].load_state_dict(state)
        return None


class _PrefixCache(DynamicCache):
    """Read-only cache of the prefix's keys and values.

    With gradient checkpointing a layer is computed a second time in the backward pass. A normal
    cache would by then contain the row's own keys and values too.
    """

    def __init__(self, filled: DynamicCache):
        super().__init__()
        self.layers = filled.layers

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prefix followed by the row's own keys and values, storing nothing.

        Args:
            key_states: Keys of the row, `[batch, heads, length, head_size]`.
            value_states: Values of the row, of the same shape.
            layer_idx: Index of the layer.
        """
        layer = self.layers[layer_idx]
        return (
            torch.cat([layer.keys, key_states], dim=-2),
            torch.cat([layer.values, value_states], dim=-2),
        )


def add_soft_prompt(model: PreTrainedModel, config: PeftConfig, max_length: int) -> SoftPromptModel:
    """Return `model` with fresh virtual tokens and everything else frozen.

    Args:
        model: The base model.
        config: PEFT's configuration of the soft prompt.
        max_length: Number of tokens of the longest row.

    Raises:
        ModelError: The virtual tokens exceed the context.
    """
    number = config.num_virtual_tokens
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and number + max_length > context:
        raise ModelError(
            f"adapter.num_virtual_tokens ({number}) and data.max_length ({max_length}) make "
            f"{number + max_length} positions; the model has {context}. Lower data.max_length to "
            f"{max(context - number, 0)}, or take fewer virtual tokens"
        )
    config.base_model_name_or_path = model.name_or_path
    model.requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "_can_checkpoint_with_cache"):
            # Safe because a `_PrefixCache` is read-only.
            module._can_checkpoint_with_cache = True
    return SoftPromptModel(model, config)


def _prepend(rows: torch.Tensor, number: int, value: int) -> torch.Tensor:
    """Return `[batch, length]` as `[batch, number + length]`, filled with `value` at the start."""
    return torch.cat([rows.new_full((len(rows), number), value), rows], dim=1)


def _drop_virtual(outputs: Any, number: int) -> Any:
    """Remove the virtual tokens from every output that has one value per token."""
    for name in ("logits", "log_probs", "entropy", "is_top1", "label_mask", "last_hidden_state"):
        if getattr(outputs, name, None) is not None:
            setattr(outputs, name, getattr(outputs, name)[:, number:])
    return outputs
