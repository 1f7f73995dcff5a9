"""Soft prompts: trained vectors that stand before a row, or before its keys and values.

PEFT makes, saves and loads them. What is ours makes such a model look like any other from outside:
- what it returns has the length of what it was given, so that losses and masks fit;
- positions, packed or not, are the caller's, counted from behind the virtual tokens;
- a prefix survives gradient checkpointing, where Transformers drops any cache a layer may write;
- the encoder behind the vectors (an MLP or LSTM) is saved too, so that training can go on from it.
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
"""Everything that was trained, in the folder of an adapter; PEFT keeps only what it comes to."""
_IGNORE = -100
_NAME = "default"


class SoftPromptModel(PeftModelForCausalLM):
    """A causal model with virtual tokens before its input."""

    def __init__(self, model: PreTrainedModel, config: PeftConfig, *args: Any, **more: Any):
        super().__init__(model, config, *args, **more)
        self._gathered: dict[str, torch.Tensor] | None = None

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **rest: Any,
    ) -> Any:
        """Return what the base returns for the same rows, the virtual tokens' part left out."""
        assert input_ids is not None, "rows are given as ids"
        virtual = self.get_prompt(batch_size=len(input_ids))
        number = self.active_peft_config.num_virtual_tokens
        if labels is not None:
            # Elsewhere nothing comes before a row's first token, and so it is not learned.
            labels = labels.clone()
            labels[:, 0] = _IGNORE
            rest["labels"] = labels
        if attention_mask is not None:
            rest["attention_mask"] = _before(attention_mask, number, 1)
        if isinstance(virtual, DynamicCache):
            if position_ids is not None:
                rest["position_ids"] = position_ids + number
            rest["past_key_values"] = _PrefixCache(virtual)
            return self.base_model(input_ids=input_ids, **rest)
        if position_ids is not None:
            ahead = torch.arange(number, device=position_ids.device).expand(len(input_ids), -1)
            rest["position_ids"] = torch.cat([ahead, position_ids + number], dim=1)
        if labels is not None:
            rest["labels"] = _before(labels, number, _IGNORE)
        rows = self.word_embeddings(input_ids)
        embeddings = torch.cat([virtual.to(rows.dtype), rows], dim=1)
        return _behind(self.base_model(inputs_embeds=embeddings, **rest), number)

    def get_prompt_embedding_to_save(self, adapter_name: str) -> torch.Tensor:
        """Return what the encoder comes to, from gathered weights where they are sharded."""
        if self._gathered is None:
            return super().get_prompt_embedding_to_save(adapter_name)
        config = self.peft_config[adapter_name]
        encoder = type(self.prompt_encoder[adapter_name])
        prefix = f"prompt_encoder.{adapter_name}."
        state = {n.removeprefix(prefix): t for n, t in self._gathered.items() if prefix in n}
        if set(state) == {"embedding.weight"}:
            return state["embedding.weight"].detach().cpu()
        alone = encoder(config)
        alone.load_state_dict({name: tensor.float().cpu() for name, tensor in state.items()})
        with torch.no_grad():
            return alone(self.prompt_tokens[adapter_name][: config.num_virtual_tokens])

    def save_pretrained(self, save_directory: str, state_dict: Any = None, **more: Any) -> None:
        """Save as PEFT does, and the encoder beside it."""
        everything = self.state_dict() if state_dict is None else state_dict
        mine = {n: t for n, t in everything.items() if n.startswith("prompt_encoder.")}
        self._gathered = mine
        try:
            super().save_pretrained(save_directory, state_dict=everything, **more)
        finally:
            self._gathered = None
        tensors = {n.replace(f".{_NAME}.", ".", 1): t.contiguous() for n, t in mine.items()}
        save_file(tensors, Path(save_directory) / ENCODER, metadata={"format": "pt"})

    def load_adapter(self, model_id: str, adapter_name: str, *args: Any, **more: Any) -> Any:
        """Load from a folder; what was trained is taken from the encoder's file."""
        file = Path(model_id) / ENCODER
        if adapter_name not in self.peft_config or not file.exists():
            return super().load_adapter(model_id, adapter_name, *args, **more)
        tensors = load_file(file)
        state = {name.removeprefix("prompt_encoder."): t for name, t in tensors.items()}
        self.prompt_encoder[adapter_name].load_state_dict(state)
        return None


class _PrefixCache(DynamicCache):
    """Keys and values that stand before a row's own and are never written to.

    A layer that is computed again in the backward pass finds them as they were.
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
        """Return the prefix followed by the row's own keys and values."""
        layer = self.layers[layer_idx]
        return (
            torch.cat([layer.keys, key_states], dim=-2),
            torch.cat([layer.values, value_states], dim=-2),
        )


def soft_prompted(model: PreTrainedModel, config: PeftConfig, max_length: int) -> SoftPromptModel:
    """Return `model` with fresh virtual tokens, everything else frozen.

    Args:
        model: The base.
        config: PEFT's, of one of the soft prompts.
        max_length: Tokens of the longest row.

    Raises:
        ModelError: The context has no room for the virtual tokens.
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
            # Safe because a `_Prefix` is only ever read.
            module._can_checkpoint_with_cache = True
    return SoftPromptModel(model, config)


def _before(rows: torch.Tensor, number: int, value: int) -> torch.Tensor:
    return torch.cat([rows.new_full((len(rows), number), value), rows], dim=1)


def _behind(outputs: Any, number: int) -> Any:
    """Cut what belongs to virtual tokens off everything that has a value per token."""
    for name in ("logits", "log_probs", "entropy", "is_top1", "label_mask", "last_hidden_state"):
        if getattr(outputs, name, None) is not None:
            setattr(outputs, name, getattr(outputs, name)[:, number:])
    return outputs
