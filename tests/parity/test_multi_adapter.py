"""Each request is answered by the adapter it names, whatever else is in its batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

from temper.cli import main
from tests.parity.composition_cases import TASKS, Shop, rows
from training.config import Job
from training.config.load import parse_job
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import DataError, ModelError
from training.evaluation.multi_adapter import AdapterRequest, AdapterServer


@pytest.fixture(scope="module", params=["lora", "bottleneck"])
def shop(request: pytest.FixtureRequest, shops: Callable[[str], Shop]) -> Shop:
    return shops(request.param)


def mixed() -> list[AdapterRequest]:
    """Return requests of both tasks in turn, each naming its own adapter."""
    both = zip(rows("assent", 12, 2), rows("refuse", 12, 2), strict=True)
    return [
        AdapterRequest(row["prompt"], task, row["completion"])
        for pair in both
        for task, row in zip(TASKS, pair, strict=True)
    ]


def test_switching_beats_either_alone(shop: Shop) -> None:
    server = AdapterServer(shop.job["model"]["source"], shop.members)
    switched = server.loss(mixed())
    for name in shop.members:
        alone = server.loss([AdapterRequest(r.prompt, name, r.completion) for r in mixed()])
        assert switched < alone - 0.01


def test_a_batch_of_several_is_as_each_by_itself(shop: Shop) -> None:
    source = shop.job["model"]["source"]
    requests = [
        *mixed()[:5],
        AdapterRequest("assent abc?"),
        AdapterRequest("refuse a longer prompt abc?"),
    ]
    answers = AdapterServer(source, shop.members).answer(requests, max_new_tokens=6)
    tokenizer = shop.tokenizer()
    job = parse_job(shop.job, "test")
    assert isinstance(job, Job)
    writer = RowTokenizer.for_job(job, tokenizer)
    for request, answer in zip(requests, answers, strict=True):
        model = shop.base()
        if request.adapter is not None:
            model = PeftModel.from_pretrained(model, shop.members[request.adapter])
        ids = torch.tensor([writer.prompt_ids(request.prompt)])
        with torch.no_grad():
            said = model.eval().generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6,
                do_sample=False, pad_token_id=0, eos_token_id=list(writer.end_ids),
            )  # fmt: skip
        assert answer == tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_command_writes_an_answer_for_each(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    lines = [
        {"prompt": r.prompt, "adapter": r.adapter, "completion": r.completion} for r in mixed()
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    adapters = [f"{name}={folder}" for name, folder in shop.members.items()]
    source = shop.job["model"]["source"]
    arguments = ["answer", source, str(file), *adapters, "--out", str(out), "--max-new-tokens", "4"]
    assert main(arguments) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in found] == [request.prompt for request in mixed()]
    assert "loss of the completions" in capsys.readouterr().out
    assert main(["answer", source, str(file), "assent"]) == 2
    assert "write NAME=FOLDER" in capsys.readouterr().err
    file.write_text('{"adapter": "assent"}\n')
    assert main(arguments) == 3
    assert "line 1: it has no prompt" in capsys.readouterr().err


def test_what_cannot_be_answered_is_refused(shop: Shop, tmp_path: Path) -> None:
    source = shop.job["model"]["source"]
    server = AdapterServer(source, shop.members)
    with pytest.raises(DataError, match=r"no adapter 'praise'\. Choose from assent, refuse"):
        server.answer([AdapterRequest("assent abcd?", "praise")])
    with pytest.raises(ModelError, match="no adapter's folder"):
        AdapterServer(source, {"assent": str(tmp_path)})


def test_adapters_of_experts_answer_one_after_another(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    shape = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    base = tmp_path / "base"
    MixtralForCausalLM(shape).save_pretrained(base)
    tokenizer.save_pretrained(base)
    for name in ("one", "two"):
        model = get_peft_model(
            MixtralForCausalLM.from_pretrained(base),
            LoraConfig(
                target_modules=["q_proj"],
                target_parameters=["mlp.experts.gate_up_proj"],
                init_lora_weights=False,
                task_type="CAUSAL_LM",
            ),
        )
        model.save_pretrained(str(tmp_path / name))
        tokenizer.save_pretrained(tmp_path / name)
    server = AdapterServer(str(base), {name: str(tmp_path / name) for name in ("one", "two")})
    names = ["one", "two", None, "one", "two", None]
    answers = server.answer(
        [AdapterRequest("What is str?", name) for name in names], max_new_tokens=8
    )
    assert answers[:3] == answers[3:]
    assert len(set(answers)) == 3
