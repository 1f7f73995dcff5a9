"""Attention by document is the masked attention, and where it cannot be, the mask is used."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.models.packed_attention import NAME, PackedDocuments, enable_packed_attention

LENGTH = 96
ENDS = [[20, 64, LENGTH], [LENGTH], [1, 33, 90, LENGTH]]
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64,
         "max_position_embeddings": 128, "pad_token_id": 0}  # fmt: skip


def build(architecture: str, **more):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SHAPE, **more)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def packed(ends=ENDS):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 64, (len(ends), LENGTH), generator=generator)
    positions = torch.stack(
        [
            torch.cat([torch.arange(e - s) for s, e in zip([0, *row], row, strict=False)])
            for row in ends
        ]
    )
    return {"input_ids": ids, "position_ids": positions}


def logits_and_gradients(model, batch):
    model.zero_grad()
    logits = model(**batch, use_cache=False).logits
    logits.logsumexp(-1).mean().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def masks_made(model, monkeypatch):
    made = []
    for layer in model.model.layers:
        attention = layer.self_attn
        original = attention.forward

        def forward(*a, original=original, **k):
            made.append(k["attention_mask"])
            return original(*a, **k)

        monkeypatch.setattr(attention, "forward", forward)
    return made


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text", "granite"])
def test_the_same_logits_and_gradients_as_with_a_mask(architecture, monkeypatch):
    more = {"sliding_window": 8} if architecture == "gemma3_text" else {}
    masked, ours = build(architecture, **more), build(architecture, **more)
    enable_packed_attention(ours)
    made = masks_made(ours, monkeypatch)

    expected, gradients = logits_and_gradients(masked, packed())
    found, our_gradients = logits_and_gradients(ours, packed())

    # The first layer of Gemma 3 has a sliding window, which needs its mask.
    wanted = torch.Tensor if architecture == "gemma3_text" else PackedDocuments
    assert isinstance(made[0], wanted)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    for ours_, theirs in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=2e-6)


def test_nothing_reaches_another_document():
    model = build("llama")
    enable_packed_attention(model)
    batch = packed()
    before = model(**batch, use_cache=False).logits
    batch["input_ids"][0, :20] = 7
    after = model(**batch, use_cache=False).logits

    assert torch.equal(before[0, 20:], after[0, 20:])
    assert not torch.equal(before[0, :20], after[0, :20])


def test_many_short_documents_share_one_masked_call(monkeypatch):
    model = build("llama")
    enable_packed_attention(model)
    made = masks_made(model, monkeypatch)
    model(**packed([list(range(2, LENGTH + 1, 2))] * 3), use_cache=False)

    assert isinstance(made[0], torch.Tensor)


def test_padded_prompts_and_answers_are_as_with_sdpa():
    masked, ours = build("llama").eval(), build("llama").eval()
    enable_packed_attention(ours)
    ids = packed()["input_ids"][:, :10]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0

    asked = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 5, "do_sample": False}

    assert torch.equal(masked.generate(**asked), ours.generate(**asked))


def test_the_name_is_not_saved(tmp_path):
    model = build("llama")
    enable_packed_attention(model)
    model.save_pretrained(tmp_path)

    assert NAME not in (tmp_path / "config.json").read_text()
