"""Adapters trained on two tasks, together on one base, do both better than either alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.factories import make_tiny_model
from tests.parity.composition_cases import Shop, losses
from tests.run_commands import Run, assert_identical, changed, train_here
from training.adapters.compose import apply
from training.adapters.composition.combiners.base import ForwardState
from training.config.adapter_base import Widths
from training.config.load import parse_job
from training.config.stage_references import resolve_references
from training.errors import JobError, ModelError
from training.export.formats import adapter_folder
from training.export.merged_folder import merged_folder

HALF = [0.3, 0.3]
"""Where A is added to A and B to B, adapters that began alike count twice."""
MERGES: dict[str, dict[str, Any]] = {
    "cat": {"combination": "cat"},
    "linear": {"combination": "linear", "weights": HALF},
    "svd": {"combination": "svd", "r": 16},
    "ties": {"combination": "ties", "density": 0.8},
    "dare": {"combination": "dare_linear", "density": 0.9, "weights": HALF},
    "magnitude": {"combination": "magnitude_prune", "density": 0.8, "weights": HALF},
}
HOWS: dict[str, dict[str, Any]] = {
    "parallel": {"kind": "parallel", "start": 0.5},
    "parallel, fixed": {"kind": "parallel", "weights": [0.6, 0.6]},
    "gate per token": {"kind": "gate"},
    "gate per sequence": {"kind": "gate", "per": "sequence"},
    "stack": {"kind": "stack"},
    "fusion": {"kind": "fusion"},
    "route by classifier": {"kind": "route"},
    "route by centroid": {"kind": "route", "by": "centroid"},
}
LINEAR = ("parallel", "parallel, fixed", "stack")
FIXED = ("parallel, fixed", "route by centroid")
"""Nothing in them learns."""
OF_BOTTLENECKS = ("stack", "fusion", "route by centroid")
CASES = [("lora", name) for name in HOWS] + [("bottleneck", name) for name in OF_BOTTLENECKS]

Trained = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def shop(shops: Callable[[str], Shop]) -> Shop:
    return shops("lora")


@pytest.fixture(scope="module")
def trained(shops: Callable[[str], Shop]) -> Trained:
    """Return the run that composed adapters of a kind in a way."""
    made: dict[tuple[str, str], Run] = {}

    def run_of(kind: str, name: str) -> Run:
        if (kind, name) not in made:
            shop = shops(kind)
            made[kind, name] = train_here(shop.composed(HOWS[name]), shop.home / f"run-{name}")
        return made[kind, name]

    return run_of


@pytest.mark.parametrize("name", MERGES)
def test_a_weighted_merge_beats_either_alone(shop: Shop, tmp_path: Path, name: str) -> None:
    """As merged, before a single step of training."""
    how = {"kind": "merge", "weights": [0.6, 0.6], **MERGES[name]}
    before, _ = losses(train_here(shop.composed(how, train={"max_steps": 1}), tmp_path / "run"))
    assert before < min(shop.alone.values()) - 0.01, (before, shop.alone)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_together_beats_either_alone(
    shops: Callable[[str], Shop], trained: Trained, tmp_path: Path, kind: str, name: str
) -> None:
    shop, run = shops(kind), trained(kind, name)
    before, after = losses(run)
    # Where nothing learns, what was before is the base alone.
    assert after < before
    assert (run.path / "metrics.jsonl").exists() != (name in FIXED)
    assert after < min(shop.alone.values()) - 0.01, (after, shop.alone)
    # PEFT loads it, with its members in it.
    assert shop.loss(shop.loaded(run.path / "model"), tmp_path) == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_answer_is_the_forward_pass_token_by_token(
    shops: Callable[[str], Shop], trained: Trained, kind: str, name: str
) -> None:
    shop = shops(kind)
    model = shop.loaded(trained(kind, name).path / "model")
    ids = shop.tokenizer()("assent abcd?", return_tensors="pt")["input_ids"]
    expected = ids
    with torch.no_grad():
        for _ in range(6):
            token = model(input_ids=expected, use_cache=False).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, token], dim=1)
        # Padding before the shorter of two prompts changes nothing.
        padded = torch.nn.functional.pad(ids, (3, 0))
        seen = torch.nn.functional.pad(torch.ones_like(ids), (3, 0))
        for prompt, mask in ((ids, torch.ones_like(ids)), (padded, seen)):
            answered = model.generate(
                input_ids=prompt, attention_mask=mask, max_new_tokens=6, do_sample=False,
                use_cache=True, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            assert torch.equal(answered[:, -6:], expected[:, -6:])


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_it_works_in_bf16_throughout(
    shops: Callable[[str], Shop], trained: Trained, kind: str, name: str
) -> None:
    """As an engine that keeps all weights so computes it, without autocast."""
    shop = shops(kind)
    model = shop.loaded(trained(kind, name).path / "model")
    ids = shop.tokenizer()("refuse abcd?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        coarse = model.to(torch.bfloat16)(input_ids=ids).logits
    assert coarse.dtype == torch.bfloat16
    assert (coarse - whole).abs().mean() < 0.05 * whole.abs().mean()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_linear_merges_and_the_rest_is_exported_as_it_is(
    trained: Trained, tmp_path: Path, kind: str, name: str
) -> None:
    model = trained(kind, name).path / "model"
    assert "changes logits" in adapter_folder(model, tmp_path / "apart")
    if kind == "lora" and name in LINEAR:
        assert "logits differ" in merged_folder(model, tmp_path / "out")
    else:
        with pytest.raises(ModelError, match=r"cannot be merged .*depend on the input"):
            merged_folder(model, tmp_path / "out")


# --- against what a person would write ----------------------------------------------------------

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def expected_of(name: str, weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return what a layer of two LoRA members adds, from the saved tensors alone."""
    changes = []
    for number in "12":
        side = "learned" if f"{LAYER}.composed_learned.{number}.down" in weights else "kept"
        down, up = (weights[f"{LAYER}.composed_{side}.{number}.{n}"] for n in ("down", "up"))
        changes.append(x @ down.T @ up.T)
    own = {
        n.removeprefix(f"{LAYER}.composed_learned.0.").removeprefix(f"{LAYER}.composed_kept.0."): t
        for n, t in weights.items()
        if n.startswith((f"{LAYER}.composed_learned.0.", f"{LAYER}.composed_kept.0."))
    }
    steps = torch.arange(1, x.shape[1] + 1)[:, None]
    mean = x.cumsum(dim=1) / steps
    both = torch.stack(changes, dim=-1)
    if name == "parallel":
        shares = own["weights"]
    elif name == "parallel, fixed":
        shares = torch.tensor([0.6, 0.6])
    elif name == "stack":
        shares = torch.ones(2)
    elif name.startswith("gate"):
        read = x if name.endswith("token") else mean
        shares = torch.softmax(read @ own["weights"].T + own["bias"], dim=-1)[..., None, :2]
    elif name == "route by classifier":
        best = (mean @ own["weights"].T + own["bias"]).argmax(-1)
        # A third choice, if there is one, is to use neither.
        shares = torch.nn.functional.one_hot(best, 3)[..., None, :2]
    elif name == "route by centroid":
        best = torch.cdist(mean, own["centroids"][None]).argmin(-1)
        shares = torch.nn.functional.one_hot(best, 3)[..., None, :2]
    else:
        raise AssertionError(name)
    return (both * shares).sum(-1)


@pytest.mark.parametrize("name", [name for name in HOWS if name != "fusion"])
def test_a_layer_equals_its_formula(shop: Shop, trained: Trained, name: str) -> None:
    run = trained("lora", name)
    layer: Any = shop.loaded(run.path / "model").get_submodule(LAYER)
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        added = layer(x) - layer.base_layer(x)
    torch.testing.assert_close(added, expected_of(name, run.weights, x), atol=1e-5, rtol=1e-4)


def test_fusion_is_attention_over_what_members_add(shop: Shop, trained: Trained) -> None:
    run = trained("lora", "fusion")
    layer: Any = shop.loaded(run.path / "model").get_submodule(LAYER)
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    weights = run.weights
    parts = [tuple(weights[f"{LAYER}.composed_kept.{n}.{p}"] for p in ("down", "up")) for n in "12"]
    queries, keys = (weights[f"{LAYER}.composed_learned.0.{n}"] for n in ("queries", "keys"))
    assert keys.abs().sum() > 0
    with torch.no_grad():
        y = layer.base_layer(x)
        values = torch.stack([x @ down.T @ up.T for down, up in parts], dim=-2)
        # The library's attention: one query per token, a key and a value per member.
        attended = torch.nn.functional.scaled_dot_product_attention(
            (y @ queries.T)[..., None, :], values @ keys.T, values
        )
        torch.testing.assert_close(layer(x) - y, attended[..., 0, :], atol=1e-5, rtol=1e-4)


def test_fusion_is_the_formula_of_adapterfusion(shop: Shop, trained: Trained) -> None:
    """Equation by equation of arXiv:2005.00247, section 3.2, with V the identity.

    s = softmax(hᵀ Q ⊗ zₙᵀ K), z'ₙ = zₙᵀ V, o = sᵀ z', for one token after the other. Each of the
    products Q and K is the paper's times the fourth root of the width of the keys.
    """
    run = trained("lora", "fusion")
    layer: Any = shop.loaded(run.path / "model").get_submodule(LAYER)
    weights = run.weights
    q, k = (weights[f"{LAYER}.composed_learned.0.{n}"].double().T for n in ("queries", "keys"))
    q, k = q / q.shape[1] ** 0.25, k / k.shape[1] ** 0.25
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        base, fused = layer.base_layer(x), layer(x)
    for row, token in torch.cartesian_prod(torch.arange(2), torch.arange(5)).tolist():
        h = base[row, token].double()
        outputs = []
        for number in "12":
            down, up = (weights[f"{LAYER}.composed_kept.{number}.{p}"] for p in ("down", "up"))
            outputs.append(up.double() @ (down.double() @ x[row, token].double()))
        scores = [float((h @ q) @ (z @ k)) for z in outputs]
        total = sum(math.exp(score) for score in scores)
        o = sum(math.exp(score) / total * z for score, z in zip(scores, outputs, strict=True))
        assert scores[0] != pytest.approx(scores[1], abs=1e-3), "it prefers neither member"
        torch.testing.assert_close(fused[row, token].double(), h + o, atol=1e-5, rtol=1e-4)


def test_bottlenecks_stacked_read_one_another(shops: Callable[[str], Shop]) -> None:
    """PEFT's own way of having both active, one after the other, says the same."""
    shop = shops("bottleneck")
    job = parse_job(shop.composed(HOWS["stack"]), "test")
    composed = apply(
        shop.base(),
        job.adapter,
        tokenizer=shop.tokenizer(),
        max_length=48,
    ).eval()
    both = shop.loaded(shop.members["assent"])
    both.load_adapter(shop.members["refuse"], adapter_name="second")
    both.base_model.set_adapter(["default", "second"])
    ids = shop.tokenizer()("refuse abcd? no", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(composed(input_ids=ids).logits, both(input_ids=ids).logits)


@pytest.mark.parametrize("name", [name for name in HOWS if name != "stack"])
def test_the_members_stay_as_they_were(shop: Shop, trained: Trained, name: str) -> None:
    weights = trained("lora", name).weights
    for number, folder in enumerate(shop.members.values(), start=1):
        own = Run(Path(folder).parent).weights
        part = f"{LAYER}.composed_kept.{number}"
        assert torch.equal(weights[f"{part}.down"], own[f"{LAYER}.lora_A.weight"])
        assert torch.equal(weights[f"{part}.up"], own[f"{LAYER}.lora_B.weight"] * 2)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("fusion", marks=pytest.mark.slow),
        pytest.param("route by classifier", marks=pytest.mark.slow),
        "stack",
    ],
)
def test_a_resumed_run_has_the_same_bits(
    shop: Shop, trained: Trained, tmp_path: Path, name: str
) -> None:
    document = shop.composed(HOWS[name], checkpoint={"every": "10 steps"})
    whole = train_here(document, tmp_path / "run")
    weights = whole.weights
    shutil.rmtree(whole.path / "model")
    shutil.rmtree(whole.path / "checkpoints/checkpoint-20")
    again = train_here(document, tmp_path / "run")
    assert all(torch.equal(tensor, again.weights[n]) for n, tensor in weights.items())
    assert_identical(again, trained("lora", name))


@pytest.mark.parametrize("name", [name for name in HOWS if name != "stack"])
def test_how_much_learns_is_known_before(shop: Shop, trained: Trained, name: str) -> None:
    job = parse_job(shop.composed(HOWS[name]), "test")
    widths = Widths(layers=2, hidden=32, queries=32, keys=16, intermediate=88)
    learned = [w.numel() for n, w in trained("lora", name).weights.items() if "_learned." in n]
    assert job.adapter.num_trained(widths) == sum(learned)


# --- trees ----------------------------------------------------------------------------------------


def test_a_tree_says_what_its_parts_say(shop: Shop, tmp_path: Path) -> None:
    """A gate over (both in parallel, one by itself), and a trained composition as a member."""
    pair = {"adapters": shop.members, "method": {"kind": "parallel", "start": 0.5}}
    tree = {"pair": pair, "alone": shop.members["refuse"]}
    document = changed(shop.job, compose={"adapters": tree, "method": {"kind": "gate"}})
    run = train_here(document, tmp_path / "run")
    before, after = losses(run)
    assert after < before
    assert after < min(shop.alone.values()) - 0.01
    model = shop.loaded(run.path / "model")
    assert shop.loss(model, tmp_path) == pytest.approx(after, abs=1e-5)

    layer: Any = model.get_submodule(LAYER)
    weights = run.weights

    def change(number: int, x: torch.Tensor) -> torch.Tensor:
        down, up = (weights[f"{LAYER}.composed_kept.{number}.{n}"] for n in ("down", "up"))
        return x @ down.T @ up.T

    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    gate = {n: weights[f"{LAYER}.composed_learned.0.{n}"] for n in ("weights", "bias")}
    inner = weights[f"{LAYER}.composed_learned.1.weights"]
    shares = torch.softmax(x @ gate["weights"].T + gate["bias"], dim=-1)
    together = inner[0] * change(2, x) + inner[1] * change(3, x)
    expected = shares[..., :1] * together + shares[..., 1:] * change(4, x)
    with torch.no_grad():
        added = layer(x) - layer.base_layer(x)
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)

    # A trained composition is a member like any other, and is not changed.
    above = {"trained": str(run.path / "model"), "alone": shop.members["assent"]}
    document = changed(
        shop.job,
        compose={"adapters": above, "method": {"kind": "parallel"}},
        train={"max_steps": 4},
    )
    upper = train_here(document, tmp_path / "upper").weights
    assert torch.equal(upper[f"{LAYER}.composed_kept.1.weights"], gate["weights"])
    assert torch.equal(upper[f"{LAYER}.composed_kept.2.weights"], inner)


def test_a_tree_of_linear_ways_merges(shop: Shop, tmp_path: Path) -> None:
    """A merge within a stack within a parallel, nothing else."""
    merge = {"adapters": shop.members, "method": {"kind": "merge", "weights": [0.5, 0.5]}}
    tree = {"both": merge, "more": shop.members["assent"]}
    document = changed(
        shop.job,
        compose={"adapters": tree, "method": {"kind": "parallel", "weights": [1.0, 0.1]}},
    )
    run = train_here(document, tmp_path / "run")
    _, after = losses(run)
    assert after < min(shop.alone.values()) - 0.01
    assert "logits differ" in merged_folder(run.path / "model", tmp_path / "out")


def test_a_stack_takes_what_was_trained_on_top(shop: Shop, tmp_path: Path) -> None:
    """An adapter trained on the base with another merged in goes above that one, nowhere else."""
    upon = changed(
        shop.job,
        model={"source": shop.members["assent"]},
        data={"train": str(shop.home / "refuse.jsonl")},
        adapter={"kind": "lora", "r": 4},
    )
    top = train_here(upon, tmp_path / "top")
    folder = str(top.path / "model")
    stack = {
        "adapters": {"assent": shop.members["assent"], "top": folder},
        "method": {"kind": "stack"},
    }
    document = changed(shop.job, compose=stack, train={"max_steps": 1, "learning_rate": 1e-9})
    before, _ = losses(train_here(document, tmp_path / "run"))
    start = AutoModelForCausalLM.from_pretrained(top.path / "start")
    alone = shop.loss(PeftModel.from_pretrained(start, folder).eval(), tmp_path / "look")
    assert before == pytest.approx(alone, abs=1e-5)

    turned = {"top": folder, "assent": shop.members["assent"]}
    for how in ({"kind": "stack"}, {"kind": "gate"}):
        wrong = changed(shop.job, compose={"adapters": turned, "method": how})
        with pytest.raises(ModelError, match="whose weights are not those in"):
            train_here(wrong, tmp_path / "wrong")


# --- bad input ------------------------------------------------------------------------------------


def test_what_does_not_belong_together_is_refused(
    shops: Callable[[str], Shop], shop: Shop, tmp_path: Path
) -> None:
    """One sentence each, before anything is trained."""
    small = changed(
        shop.job,
        train={"max_steps": 4},
        adapter={"kind": "lora", "r": 4, "target_modules": ["q_proj"]},
    )
    other = str(train_here(small, tmp_path / "small").path / "model")
    mixed = {"assent": shop.members["assent"], "small": other}

    def composed(adapters: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
        return changed({**shop.job, "compose": {"adapters": adapters, "method": how}})

    linear = composed(mixed, {"kind": "merge", "combination": "linear"})
    with pytest.raises(ModelError, match=r"assent has r 8 on 14 layers, small has r 4 on 2"):
        train_here(linear, tmp_path / "linear")
    for kind in ("merge", "fusion", "stack"):
        fine = changed(composed(mixed, {"kind": kind}), train={"max_steps": 4})
        train_here(fine, tmp_path / kind)

    make_tiny_model(tmp_path / "wide", intermediate_size=96)
    elsewhere = changed(linear, model={"source": str(tmp_path / "wide")})
    with pytest.raises(ModelError, match="whose weights are not those in"):
        train_here(elsewhere, tmp_path / "elsewhere")
    nothing = composed({**mixed, "assent": str(tmp_path)}, {"kind": "gate"})
    with pytest.raises(ModelError, match=r"is no adapter's folder"):
        train_here(nothing, tmp_path / "none")
    kinds = {"low": shop.members["assent"], "narrow": shops("bottleneck").members["assent"]}
    with pytest.raises(ModelError, match=r"low is of kind lora, narrow is of kind bottleneck"):
        train_here(composed(kinds, {"kind": "fusion"}), tmp_path / "kinds")
    ada = AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], total_step=10)
    get_peft_model(shop.base(), ada).save_pretrained(str(tmp_path / "ada"))
    dealt = {"assent": shop.members["assent"], "dealt": str(tmp_path / "ada")}
    with pytest.raises(ModelError, match=r"compose\.adapters\.dealt: .* is of kind adalora; only"):
        train_here(composed(dealt, {"kind": "gate"}), tmp_path / "dealt-run")
    narrow = shops("bottleneck")
    with pytest.raises(ModelError, match=r"is no LoRA adapter, and only LoRA adapters"):
        train_here(narrow.composed({"kind": "merge"}), tmp_path / "narrow")
    lost = {"kind": "route", "by": "centroid", "examples": {"assent": str(tmp_path / "no.jsonl")}}
    with pytest.raises(
        ModelError, match=r"rows of its task.*Name rows in method\.examples\.assent"
    ):
        train_here(composed(shop.members, lost), tmp_path / "lost")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "weights": (
        {"method": {"kind": "parallel", "weights": [1.0]}},
        r"compose\.method\.weights: must be one number for each of the 2 adapters \(a, b\)",
    ),
    "examples of nobody": (
        {"method": {"kind": "route", "by": "centroid", "examples": {"c": "x.jsonl"}}},
        r"compose\.method\.examples\.c: there is no such adapter\. Choose from a, b",
    ),
    "examples unread": (
        {"method": {"kind": "route", "examples": {"a": "x.jsonl"}}},
        r"is for by: centroid",
    ),
    "merge of a gate": (
        {
            "adapters": {
                "a": "x",
                "b": {"adapters": {"c": "y", "d": "z"}, "method": {"kind": "gate"}},
            }
        },
        r"compose\.adapters\.b\.method: only adapters can be merged",
    ),
    "one alone": ({"adapters": {"a": "x"}}, r"at least 2"),
    "a name": ({"adapters": {"a.b": "x", "c": "y"}}, r"made of letters, digits"),
    "no such way": (
        {"method": {"kind": "fuse"}},
        r"no such kind \(got fuse\)\. Did you mean fusion",
    ),
    "a key inside": (
        {"adapters": {"a": "x", "b": {"adapters": {"c": "y", "d": "z"}, "hwo": {}}}},
        r"compose.*b.*hwo: no such key",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_job_that_cannot_work_is_refused_unread(document: dict[str, Any], name: str) -> None:
    section, said = WRONG[name]
    compose = {"adapters": {"a": "x", "b": "y"}, **section}
    with pytest.raises(JobError, match=said):
        parse_job({**document, "compose": compose}, "test")


def test_what_it_does_not_go_with_is_refused(document: dict[str, Any]) -> None:
    def job(how: dict[str, Any], **sections: Any) -> dict[str, Any]:
        compose = {"adapters": {"a": "x", "b": "y"}, "method": how}
        return changed({**document, "compose": compose}, **sections)

    with pytest.raises(
        JobError, match=r"sharding\.zero: .*adapters are loaded into complete layers"
    ):
        parse_job(job({"kind": "gate"}, sharding={"zero": 3}), "test")
    with pytest.raises(JobError, match="give compose or adapter, not both"):
        parse_job({**job({"kind": "gate"}), "adapter": {"kind": "lora"}}, "test")
    with pytest.raises(JobError, match=r"data\.packing: .*by all of a row so far"):
        parse_job(job({"kind": "route"}, data={"packing": True}), "test")
    with pytest.raises(JobError, match=r"compose\.method: nothing in it is trained, and dpo"):
        parse_job(job({"kind": "parallel", "weights": [1, 1]}, method={"kind": "dpo"}), "test")


def test_a_pass_starts_over(shop: Shop, trained: Trained) -> None:
    """A prompt of one token is no continuation of the answer before it."""
    model = shop.loaded(trained("lora", "gate per sequence").path / "model")
    one, long = torch.tensor([[9]]), torch.tensor([[5, 6, 7, 8, 3, 2]])
    with torch.no_grad():
        fresh = model(input_ids=one, use_cache=False).logits
        model(input_ids=long, use_cache=False)
        torch.testing.assert_close(model(input_ids=one, use_cache=False).logits, fresh)
    assert isinstance(model.base_model.forward_state, ForwardState)


def test_members_may_be_earlier_stages(document: dict[str, Any]) -> None:
    base = {key: value for key, value in document.items() if key != "name"}
    lora = {**base, "adapter": {"kind": "lora"}}
    stages = [{"name": "a", **lora}, {"name": "b", **lora}]
    both = {**base, "name": "both", "compose": {"adapters": {"a": "stage:a", "b": "stage:b"}}}
    job = parse_job({"name": "pipeline", "stages": [*stages, both]}, "test")
    resolved = job.model_dump(mode="json")
    resolve_references(job, resolved, lambda stage: f"/runs/{stage}")
    assert resolved["stages"][2]["adapter"]["adapters"] == {"a": "/runs/a", "b": "/runs/b"}
    with pytest.raises(JobError, match=r"stages\.1\..*adapters\.b: no earlier stage is called so"):
        parse_job({"name": "pipeline", "stages": [stages[0], both]}, "test")
