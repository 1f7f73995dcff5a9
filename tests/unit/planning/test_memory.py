"""Properties of the memory simulation that hold for every model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planning.memory.adapters import FourBitLayout, LoraCost, LowRankFactors
from planning.memory.method_profile import AuxModel, MethodProfile, RolloutProfile
from planning.memory.parameters import MemoryConfig
from planning.memory.simulate_step import simulate
from planning.model_shape import DOWN, GATE_UP, ModelShape
from planning.peak_memory import peak_gib, quick_peak_gib
from training.config.model import Freeze

HIDDEN, INNER = 512, 1408
SHAPE = ModelShape(
    family="llama",
    hidden=HIDDEN,
    intermediate=INNER,
    layers=8,
    heads=8,
    kv_heads=4,
    head_dim=64,
    vocab=32000,
    tied=False,
    context=4096,
    linears={
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
        "self_attn.v_proj": (HIDDEN // 2, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    },
    norms={"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN},
)
PLAIN = MemoryConfig(
    shape=SHAPE,
    device="cuda",
    rows=4,
    length=512,
    packed=False,
    attention="sdpa",
    checkpointing=False,
    precision="bf16",
    adapter=None,
    four_bit=None,
    accumulates=True,
    optimizer="adamw",
    zero=0,
    world=1,
)
EMBEDDINGS = ("embed_tokens", "lm_head")
HELD = MethodProfile(head="soft", frozen=AuxModel(full_distribution=True), divergence="forward_kl")
VARIED = {
    "plain": PLAIN,
    "checkpointing": replace(PLAIN, checkpointing=True),
    "LoRA": replace(PLAIN, adapter=LoraCost(16)),
    "LoRA on some layers": replace(PLAIN, adapter=LoraCost(16, layers=(5, 6, 7))),
    "LoRA, checkpointing": replace(PLAIN, adapter=LoraCost(16), checkpointing=True),
    "DoRA": replace(PLAIN, adapter=LoraCost(16, dora=True)),
    "LoRA, embeddings in full": replace(PLAIN, adapter=LoraCost(16, saved=EMBEDDINGS)),
    "held near the start": replace(PLAIN, method=MethodProfile(anchored=True)),
    "held near the base": replace(PLAIN, method=HELD),
    "IA3": replace(PLAIN, adapter=LowRankFactors(("k_proj", "down_proj"), ("down_proj",))),
    "packed": replace(PLAIN, packed=True),
    "ZeRO 1": replace(PLAIN, zero=1, world=8),
    "ZeRO 2": replace(PLAIN, zero=2, world=8),
    "ZeRO 3": replace(PLAIN, zero=3, world=8),
    "FSDP": replace(PLAIN, fsdp=True, world=8),
    "on a CPU": replace(PLAIN, device="cpu", precision="fp32"),
    "frozen layers": replace(PLAIN, freeze=Freeze(layers=6)),
}
_GIB = 2.0**30
MIXTURE = replace(
    SHAPE,
    linears={name: size for name, size in SHAPE.linears.items() if not name.startswith("mlp.")},
    experts=8,
    experts_per_token=2,
    expert_width=256,
    balanced=True,
)
_EXPERTS_LORA = LoraCost(8, ("q_proj",), experts=((GATE_UP, 8), (DOWN, 8)))
VARIED |= {
    "mixture": replace(PLAIN, shape=MIXTURE),
    "mixture, checkpointing": replace(PLAIN, shape=MIXTURE, checkpointing=True),
    "mixture, LoRA of experts": replace(PLAIN, shape=MIXTURE, adapter=_EXPERTS_LORA),
    "mixture, ZeRO 3": replace(PLAIN, shape=MIXTURE, zero=3, world=8),
    "mixture, FSDP": replace(PLAIN, shape=MIXTURE, fsdp=True, world=8),
}


def total(recipe: MemoryConfig) -> float:
    return sum(peak_gib(recipe).values())


def test_what_rests_is_exact() -> None:
    """Weights, their gradients and two states, all in fp32, where no engine keeps a copy."""
    parts = peak_gib(PLAIN)
    each = 4 * SHAPE.parameters / _GIB
    assert parts["weights"] == pytest.approx(each)
    assert parts["optimizer"] == pytest.approx(2 * each)
    assert parts["gradients"] == pytest.approx(each)


@pytest.mark.parametrize("name", VARIED)
def test_the_quick_answer_is_the_long_one(name: str) -> None:
    recipe = replace(VARIED[name], shape=replace(VARIED[name].shape, layers=24))
    assert quick_peak_gib(recipe) == pytest.approx(total(recipe), rel=0.01)


@pytest.mark.parametrize("name", VARIED)
def test_longer_rows_and_more_of_them_never_take_less(name: str) -> None:
    recipe = VARIED[name]
    assert total(replace(recipe, length=1024)) >= total(recipe)
    assert total(replace(recipe, rows=8)) >= total(recipe)


@pytest.mark.parametrize("name", ["plain", "LoRA", "packed", "on a CPU"])
def test_computing_again_takes_less(name: str) -> None:
    recipe = VARIED[name]
    without = peak_gib(recipe)["activations"]
    assert peak_gib(replace(recipe, checkpointing=True))["activations"] < without / 2


def test_shards_take_less_the_more_devices_share_them() -> None:
    for name in ("ZeRO 1", "ZeRO 2", "ZeRO 3", "FSDP"):
        of_8, of_64 = VARIED[name], replace(VARIED[name], world=64)
        assert peak_gib(of_64)["optimizer"] == pytest.approx(
            peak_gib(of_8)["optimizer"] / 8, rel=0.01
        )
        assert total(of_64) < total(of_8)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_what_is_offloaded_is_not_on_the_device(zero: int) -> None:
    here = replace(PLAIN, zero=zero, world=8, accumulates=False)
    away = replace(here, offload="cpu")
    before, after = peak_gib(here), peak_gib(away)
    assert after["optimizer"] == 0 < before["optimizer"]
    assert total(away) < total(here)
    if zero == 3:
        assert after["weights"] < before["weights"] / 10
    # Where the device is the host, nothing is gained.
    assert total(replace(away, device="cpu")) == total(replace(here, device="cpu"))


def test_what_is_frozen_has_neither_gradient_nor_state() -> None:
    parts = peak_gib(VARIED["frozen layers"])
    learned = SHAPE.parameters - 6 * SHAPE.per_layer
    assert parts["weights"] == pytest.approx(4 * SHAPE.parameters / _GIB)
    assert parts["optimizer"] == pytest.approx(8 * learned / _GIB)
    assert parts["activations"] < peak_gib(PLAIN)["activations"]
    pattern = Freeze(patterns=(r"mlp\.",))
    without_mlps = SHAPE.parameters - SHAPE.layers * 3 * HIDDEN * INNER
    assert peak_gib(replace(PLAIN, freeze=pattern))["optimizer"] == pytest.approx(
        8 * without_mlps / _GIB
    )


def test_magnitudes_are_learned_and_the_whole_update_is_written_out() -> None:
    lora, dora = peak_gib(VARIED["LoRA"]), peak_gib(VARIED["DoRA"])
    magnitudes = SHAPE.layers * sum(rows for rows, _ in SHAPE.linears.values())
    assert dora["optimizer"] - lora["optimizer"] == pytest.approx(8 * magnitudes / _GIB)
    assert dora["activations"] > 1.2 * lora["activations"]


def test_modules_trained_in_full_stand_beside_what_they_copy() -> None:
    lora, full = peak_gib(VARIED["LoRA"]), peak_gib(VARIED["LoRA, embeddings in full"])
    tables = 2 * SHAPE.vocab * SHAPE.hidden
    assert full["weights"] - lora["weights"] == pytest.approx(4 * tables / _GIB)
    assert full["optimizer"] - lora["optimizer"] == pytest.approx(8 * tables / _GIB)
    assert full["gradients"] - lora["gradients"] == pytest.approx(4 * tables / _GIB)


def test_the_start_is_kept_beside_what_is_held_near_it() -> None:
    plain, held = peak_gib(PLAIN), peak_gib(VARIED["held near the start"])
    copies = 4 * SHAPE.parameters / _GIB
    assert held["models"] == pytest.approx(copies)
    # Autograd keeps the difference from it as well.
    assert held["activations"] > plain["activations"] + 0.9 * copies
    lora = replace(VARIED["LoRA"], method=MethodProfile(anchored=True))
    learned = 16 * sum(a + b for a, b in SHAPE.linears.values()) * SHAPE.layers
    assert peak_gib(lora)["models"] == pytest.approx(4 * learned / _GIB)


def test_the_base_is_a_second_model_only_where_every_weight_is_trained() -> None:
    assert peak_gib(VARIED["held near the base"])["models"] == pytest.approx(
        4 * SHAPE.parameters / _GIB, rel=0.01
    )
    itself = replace(HELD, frozen=AuxModel(full_distribution=True, same=True))
    assert peak_gib(replace(VARIED["LoRA"], method=itself))["models"] == 0


def test_likeliest_tokens_of_a_teacher_take_more_than_all_of_them() -> None:
    """The student's other tokens are struck out of copies, forward and backward."""
    known = MethodProfile(head="soft", divergence="forward_kl", known=17)
    alone = replace(known, known=0)
    few, all_ = (peak_gib(replace(PLAIN, method=one))["logits"] for one in (known, alone))
    assert few > all_


def test_casts_of_the_head_are_not_kept_for_every_tile() -> None:
    """A longer row adds its own tensors to the peak, not one more head per tile."""
    known = MethodProfile(head="soft", divergence="forward_kl")
    short, long = (
        peak_gib(replace(PLAIN, method=known, rows=rows, checkpointing=True))["logits"]
        for rows in (4, 16)
    )
    assert long < 1.1 * short


def test_factors_are_as_many_as_the_channels_they_multiply() -> None:
    parts = peak_gib(VARIED["IA3"])
    assert parts["optimizer"] == pytest.approx(8 * SHAPE.layers * (HIDDEN // 2 + INNER) / _GIB)


def test_a_critic_of_its_own_is_a_second_model_that_learns() -> None:
    alone = replace(PLAIN, method=_ppo(""))
    own = replace(PLAIN, method=_ppo("own"))
    body = SHAPE.parameters - SHAPE.vocab * SHAPE.hidden
    before, after = peak_gib(alone), peak_gib(own)
    assert after["weights"] - before["weights"] == pytest.approx(4 * body / _GIB)
    assert after["optimizer"] - before["optimizer"] == pytest.approx(8 * body / _GIB)
    assert after["activations"] > 1.7 * before["activations"]


def test_a_critic_on_the_policys_backbone_is_one_more_adapter() -> None:
    lora = replace(PLAIN, adapter=LoraCost(16))
    alone, shared = (replace(lora, method=_ppo(kind)) for kind in ("", "shared"))
    before, after = peak_gib(alone), peak_gib(shared)
    learned = 16 * sum(a + b for a, b in SHAPE.linears.values()) * SHAPE.layers
    assert after["optimizer"] - before["optimizer"] == pytest.approx(8 * learned / _GIB)
    assert after["weights"] - before["weights"] == pytest.approx(4 * learned / _GIB)


def test_second_models_and_reward_models_lie_beside() -> None:
    asked = MethodProfile(head="answers", frozen=AuxModel(), rollout=RolloutProfile(8, 128, 128))
    scored = replace(asked, scorers=(SHAPE, SHAPE))
    reference = peak_gib(replace(PLAIN, method=asked))["models"]
    both = peak_gib(replace(PLAIN, method=scored))["models"]
    assert reference == pytest.approx(4 * SHAPE.parameters / _GIB, rel=0.01)
    assert both - reference == pytest.approx(2 * 2 * SHAPE.parameters / _GIB)


def test_all_experts_are_weights_and_a_token_is_copied_for_each_of_its_own() -> None:
    parts = peak_gib(VARIED["mixture"])
    experts = 3 * 8 * 256 * HIDDEN
    attention = sum(rows * columns for rows, columns in MIXTURE.linears.values())
    layer = attention + experts + 8 * HIDDEN + 2 * HIDDEN
    assert MIXTURE.per_layer == layer
    assert parts["optimizer"] == pytest.approx(8 * MIXTURE.parameters / _GIB)
    # Per copy of a token, fp32: its input, both halves of the MLP, their product, its output.
    more = replace(MIXTURE, experts_per_token=4)
    grown = peak_gib(replace(PLAIN, shape=more))["activations"] - parts["activations"]
    copies = 2 * PLAIN.rows * PLAIN.length * SHAPE.layers
    assert grown * _GIB >= copies * 4 * (2 * HIDDEN + 4 * 256)
    assert grown * _GIB <= 1.5 * copies * 4 * (2 * HIDDEN + 4 * 256)


def test_router_logits_are_kept_for_the_load_balancing_loss() -> None:
    many = replace(MIXTURE, experts=128, expert_width=16)
    with_loss, without = (
        peak_gib(replace(PLAIN, shape=replace(many, balanced=balanced)))["activations"]
        for balanced in (True, False)
    )
    logits = 2 * 128 * PLAIN.rows * PLAIN.length * SHAPE.layers
    assert (with_loss - without) * _GIB >= logits


def test_lora_of_experts_holds_their_weights_once_more() -> None:
    attention = replace(PLAIN, shape=MIXTURE, adapter=LoraCost(8, ("q_proj",)))
    before, after = peak_gib(attention), peak_gib(VARIED["mixture, LoRA of experts"])
    learned = SHAPE.layers * 8 * 8 * (HIDDEN + 2 * 256 + 256 + HIDDEN)
    assert after["weights"] - before["weights"] == pytest.approx(4 * learned / _GIB)
    assert after["optimizer"] - before["optimizer"] == pytest.approx(8 * learned / _GIB)
    folded = 2 * SHAPE.layers * 3 * 8 * 256 * HIDDEN
    assert (after["activations"] - before["activations"]) * _GIB >= folded


def test_a_weight_that_comes_to_rest_in_4_bits_was_there_in_16() -> None:
    """One short row needs less than the largest weight did while it was read."""
    four_bit = FourBitLayout(double=True, compute="bf16", widens=False)
    tiny = replace(PLAIN, rows=1, length=8, adapter=LoraCost(1), four_bit=four_bit, device="cuda")
    assert "loading" in simulate(tiny)
    assert peak_gib(tiny)["buffers"] * _GIB >= 2 * INNER * HIDDEN


def test_the_cache_of_answers_grows_with_them() -> None:
    few, many = (
        replace(PLAIN, rows=1, adapter=LoraCost(16), method=MethodProfile("answers", rollout=asked))
        for asked in (RolloutProfile(64, 256, 256), RolloutProfile(64, 256, 2048))
    )
    assert peak_gib(many)["generation"] > 4 * peak_gib(few)["generation"]


def _ppo(critic: str) -> MethodProfile:
    return MethodProfile(head="answers", rollout=RolloutProfile(8, 128, 128), critic=critic)  # type: ignore[arg-type]
