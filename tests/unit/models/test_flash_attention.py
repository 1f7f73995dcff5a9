"""Packed documents stay apart under flash attention, whatever the micro-batch size.

Transformers' own dispatch runs; only the two kernels of flash-attn, which need a GPU, are written
out in torch.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, modeling_flash_attention_utils

from training.errors import ModelError
from training.models.flash_attention import pass_document_boundaries

LENGTH = 24
ENDS = [[5, 16, LENGTH], [LENGTH], [1, 9, 22, LENGTH]]
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64,
         "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip


def dense(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, deterministic=False):
    """Stand for `flash_attn_func`: [batch, length, heads, head size]."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    # The last query sees every key, as in flash-attn from version 2.1 on.
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    mask = seen if causal else None
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=softmax_scale, enable_gqa=True
    )
    return out.transpose(1, 2)


def ragged(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
    dropout_p=0.0, softmax_scale=None, causal=False, deterministic=False,
):  # fmt: skip
    """Stand for `flash_attn_varlen_func`: [tokens, heads, head size]."""
    assert cu_seqlens_q.dtype == torch.int32
    ends = cu_seqlens_q.tolist()
    assert max_seqlen_q == max(e - b for b, e in pairwise(ends))
    parts = [
        dense(*(part[None, b:e] for part in (q, k, v)), softmax_scale=softmax_scale, causal=causal)
        for b, e in pairwise(ends)
    ]
    return torch.cat(parts, dim=1)[0]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = modeling_flash_attention_utils
    monkeypatch.setattr(utils, "_loaded_implementation", None)
    for name in ("_flash_fn", "_flash_varlen_fn", "_flash_with_kvcache_fn", "_pad_fn", "_unpad_fn",
                 "_process_flash_kwargs_fn", "_process_with_kvcache_kwargs_fn"):  # fmt: skip
        monkeypatch.setattr(utils, name, None)
    monkeypatch.setattr(utils, "_lazy_imports", lambda *a, **k: (dense, ragged, None, None, None))


def build(attention: str, architecture: str = "llama"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SHAPE)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    # `from_pretrained` would ask for the package.
    model.config._attn_implementation = attention
    return model


def packed(ends):
    ids = torch.randint(1, 64, (len(ends), LENGTH), generator=torch.Generator().manual_seed(1))
    positions = [
        torch.cat([torch.arange(e - b) for b, e in zip([0, *row], row, strict=False)])
        for row in ends
    ]
    return ids, torch.stack(positions)


def apart(model, ids, ends):
    """Return the logits of each document alone, without any packing."""
    rows = []
    for row, of_row in zip(ids, ends, strict=True):
        pieces = [row[None, b:e] for b, e in zip([0, *of_row], of_row, strict=False)]
        rows.append(torch.cat([model(piece, use_cache=False).logits for piece in pieces], dim=1))
    return torch.cat(rows)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_documents_do_not_see_each_other(architecture: str, rows: int, checkpointing: bool) -> None:
    model = build("flash_attention_2", architecture)
    pass_document_boundaries(model)
    if checkpointing:
        model.train().activation_checkpointing_enable()
    ids, positions = packed(ENDS[:rows])
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    expected = apart(build("sdpa", architecture), ids, ENDS[:rows])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("kernels")
def test_transformers_alone_mixes_documents_of_several_rows() -> None:
    # The reason for the hook. If this fails, Transformers separates them and the hook can go.
    model = build("flash_attention_2")
    ids, positions = packed(ENDS)
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    assert (logits - apart(build("sdpa"), ids, ENDS)).abs().max() > 1e-3


@pytest.mark.usefixtures("kernels")
def test_mask_and_cache_keep_their_own_way() -> None:
    model = build("flash_attention_2").eval()
    pass_document_boundaries(model)
    ids = torch.randint(1, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    first = model(input_ids=ids, use_cache=True)
    more = model(input_ids=ids[:, :1], past_key_values=first.past_key_values, use_cache=True)
    whole = model(input_ids=torch.cat([ids, ids[:, :1]], dim=1), use_cache=False)
    torch.testing.assert_close(more.logits[:, -1], whole.logits[:, -1], atol=1e-5, rtol=0)


def test_model_that_takes_no_boundaries_is_refused() -> None:
    class Body(torch.nn.Module):
        def forward(self, input_ids=None, position_ids=None): ...

    class Model(torch.nn.Module):
        base_model = Body()

    with pytest.raises(ModelError, match=r"Use model\.attention: sdpa"):
        pass_document_boundaries(Model())  # type: ignore[arg-type]
