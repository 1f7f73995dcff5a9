from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data import data_factories
from tests.unit.data.data_factories import make_job, write_jsonl
from training.config.data import Source
from training.data.prepare import Prepared, iter_texts, load_texts, prepare
from training.data.storage.table import RowTable
from training.errors import DataError, JobError

Prepare = Callable[..., Prepared]


def pairs(path: Path, count: int = 60, name: str = "p") -> Path:
    rows = [
        {"prompt": f"What is {name} {i}?", "completion": f"It is the number {i} of {name}."}
        for i in range(count)
    ]
    return write_jsonl(path, rows)


def documents(path: Path, count: int = 40, words: int = 60) -> Path:
    rows = [
        {"text": f"doc {i} " + "the cat sat on a mat " * (1 + i * words // 6 // count)}
        for i in range(count)
    ]
    return write_jsonl(path, rows)


def ids(table: Any) -> list[str]:
    assert isinstance(table, RowTable)
    return [id_ for i in range(len(table)) for id_ in table[i]["ids"]]


def base(id_: str) -> str:
    return id_.split("#")[0]


def test_a_set_of_pairs(prepared: Prepare, tmp_path: Path) -> None:
    result = prepared(pairs(tmp_path / "a.jsonl"), validation={"split": "10%"}, max_length=256)
    assert isinstance(result.train, RowTable) and result.validation is not None
    assert (len(result.train), len(result.validation)) == (54, 6)
    assert sorted(ids(result.train) + ids(result.validation)) == sorted(
        f"a.jsonl:{i}" for i in range(1, 61)
    )
    row = result.train[0]
    assert len(row["input_ids"]) == len(row["labels"]) == row["seq_lengths"][0]
    total = sum(len(result.train[i]["input_ids"]) for i in range(54))
    learned = sum(x != -100 for i in range(54) for x in result.train[i]["labels"])
    assert (result.train.num_tokens, result.train.num_supervised) == (total, learned)
    assert result.report.tokens == total and result.report.supervised == learned


def test_the_run_folder_gets_the_report(prepared: Prepare, tmp_path: Path) -> None:
    path = pairs(tmp_path / "a.jsonl", 5)
    path.write_text(path.read_text() + '{"prompt": "' + "word " * 400 + '", "completion": "x"}\n')
    path.write_text(path.read_text() + "not json\n")
    result = prepared(path, on_error="skip", max_length=200, terms=["hypothyroidism"])
    run = tmp_path / "run"
    data = json.loads((run / "data.json").read_text())
    assert (data["rows_read"], data["rows_skipped"], data["rows_dropped"]) == (7, 1, 1)
    assert data["rows_train"] == 5 and data["terms"]["terms"][0]["term"] == "hypothyroidism"
    (dropped,) = (run / "dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped)["id"] == "a.jsonl:6" and "max_length is 200" in dropped
    (skipped,) = (run / "skipped.jsonl").read_text().splitlines()
    assert json.loads(skipped)["id"] == "a.jsonl:7" and "not JSON" in skipped
    preview = (run / "mask_preview.txt").read_text()
    assert "⟦It is the number" in preview and "What is p" in preview
    assert "What is p" not in preview.split("⟦")[1].split("⟧")[0]
    assert any("skipped" in warning for warning in result.report.warnings)
    assert any("tokens per word" in warning for warning in result.report.warnings)
    assert "5 rows to train on" in "\n".join(result.report.summary())


def test_bad_rows_stop_by_default(prepared: Prepare, tmp_path: Path) -> None:
    path = pairs(tmp_path / "a.jsonl", 5)
    path.write_text(path.read_text() + '{"prompt": "p", "completion": ""}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:6: the completion is empty.*on_error: skip"):
        prepared(path)


def test_one_bad_line_in_very_many_is_found_quickly(prepared: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = b'{"prompt": "p", "completion": "c"}\n'
    path.write_bytes(line * 100_000 + b'{"prompt": \n' + line * 10)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"a\.jsonl:100001: not JSON"):
        prepared(path, workers=1)
    assert time.monotonic() - start < 60


def test_data_without_usable_rows_is_refused_with_a_fix(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"prompt": "the cat sat " * (20 + i), "completion": "yes"} for i in range(5)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"all 5 rows lost their answer") as error:
        prepared(path, max_length=16)
    needed = int(str(error.value).split("needs ")[1].split()[0])
    result = prepared(path, max_length=needed)
    assert len(ids(result.train)) == 1
    with pytest.raises(DataError, match="all 5 rows"):
        prepared(path, max_length=needed - 1)


def test_packing_keeps_documents_whole(prepared: Prepare, tmp_path: Path) -> None:
    path = documents(tmp_path / "d.jsonl")
    plain = prepared(path, method="pretrain", max_length=64).train
    packed = prepared(path, method="pretrain", max_length=64, packing=True)
    assert isinstance(plain, RowTable) and isinstance(packed.train, RowTable)
    pieces = {}
    for i in range(len(packed.train)):
        row = packed.train[i]
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) <= 64
        at = 0
        for id_, length in zip(row["ids"], row["seq_lengths"], strict=True):
            assert row["labels"][at] == -100
            pieces[id_] = (row["input_ids"][at : at + length], row["labels"][at : at + length])
            at += length
    assert pieces == {
        row["ids"][0]: (row["input_ids"], row["labels"])
        for row in (plain[i] for i in range(len(plain)))
    }
    assert packed.train.num_tokens == plain.num_tokens
    assert packed.train.num_supervised == plain.num_supervised
    assert packed.report.efficiency > 0.9


def test_no_document_is_on_both_sides(prepared: Prepare, tmp_path: Path) -> None:
    path = documents(tmp_path / "d.jsonl", words=900)
    split = {"split": "20%"}
    result = prepared(path, method="pretrain", max_length=64, validation=split, packing=True)
    train, held = ({base(id_) for id_ in ids(t)} for t in (result.train, result.validation))
    assert any("#" in id_ for id_ in ids(result.train))
    assert not train & held and len(held) == 8 and len(train) == 32
    assert result.validation is not None
    assert any(len(result.validation[i]["ids"]) > 1 for i in range(len(result.validation)))


def test_the_split_follows_the_seed(prepared: Prepare, tmp_path: Path) -> None:
    path = pairs(tmp_path / "a.jsonl")
    held = [
        set(ids(prepared(path, validation={"split": "10%"}, seed=seed).validation))
        for seed in (1, 1, 2)
    ]
    assert held[0] == held[1] != held[2]


@pytest.mark.parametrize(("count", "share"), [(1, "50%"), (2, "1%"), (2, "99%")])
def test_a_split_leaves_rows_on_both_sides(
    prepared: Prepare, tmp_path: Path, count: int, share: str
) -> None:
    path = pairs(tmp_path / "a.jsonl", count)
    if count == 1:
        with pytest.raises(DataError, match=r"at least 2 rows.*validation: none"):
            prepared(path, validation={"split": share})
        return
    result = prepared(path, validation={"split": share})
    assert (len(ids(result.train)), len(ids(result.validation))) == (1, 1)


def test_a_validation_file(prepared: Prepare, tmp_path: Path) -> None:
    path, held = pairs(tmp_path / "a.jsonl", 8), pairs(tmp_path / "v.jsonl", 3)
    result = prepared(path, validation=str(held))
    assert ids(result.validation) == ["v.jsonl:1", "v.jsonl:2", "v.jsonl:3"]


def test_weights_limits_and_shuffling(prepared: Prepare, tmp_path: Path) -> None:
    a, b = pairs(tmp_path / "a.jsonl", 20), pairs(tmp_path / "b.jsonl", 20, "q")
    sources = [{"source": str(a), "weight": 3}, {"source": str(b), "weight": 0.5}]
    counts = Counter(ids(prepared(sources).train))
    assert {n for id_, n in counts.items() if id_[0] == "a"} == {3}
    assert sum(n for id_, n in counts.items() if id_[0] == "b") == 10
    limited = Counter(id_[0] for id_ in ids(prepared(sources, limit=14).train))
    assert limited == {"a": 12, "b": 2}
    first = ids(prepared(a, limit=5, shuffle=False).train)
    assert first == [f"a.jsonl:{i}" for i in range(1, 6)]
    assert ids(prepared({"source": str(a), "limit": 5}, shuffle=False).train) == first
    assert ids(prepared(a).train) != ids(prepared(a, shuffle=False).train)
    assert ids(prepared(a, seed=1).train) == ids(prepared(a, seed=1).train)


def test_sources_with_equal_names_are_distinguished(prepared: Prepare, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        pairs(tmp_path / folder / "a.jsonl", 3, folder)
    result = prepared([str(tmp_path / "x" / "a.jsonl"), str(tmp_path / "y" / "a.jsonl")])
    assert len(set(ids(result.train))) == 6


def test_replay_is_a_share_of_all_tokens(prepared: Prepare, tmp_path: Path) -> None:
    path = documents(tmp_path / "d.jsonl")
    general = documents(tmp_path / "general.jsonl", 50)
    replay = {"source": str(general), "share": "25%"}
    result = prepared(path, method="pretrain", max_length=64, replay=replay)
    assert isinstance(result.train, RowTable)
    lengths: Counter[str] = Counter()
    for i in range(len(result.train)):
        row = result.train[i]
        lengths[row["ids"][0].split(":")[0]] += len(row["input_ids"])
    share = lengths["general.jsonl"] / lengths.total()
    assert abs(share - 0.25) < 64 / lengths.total()
    by_role = {source.role: source.tokens_trained for source in result.report.sources}
    assert by_role == {"train": lengths["d.jsonl"], "replay": lengths["general.jsonl"]}


def test_text_in_sft_and_pairs_in_pretraining(prepared: Prepare, tmp_path: Path) -> None:
    text = prepared(documents(tmp_path / "d.jsonl"), max_length=64).train
    assert isinstance(text, RowTable)
    assert text.num_supervised > 0.9 * text.num_tokens
    result = prepared(pairs(tmp_path / "a.jsonl"), method="pretrain", max_length=64).train
    assert isinstance(result, RowTable)
    assert result.num_supervised == result.num_tokens - len(result)


def test_chats_need_a_template_and_get_one(prepared: Prepare, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
    ] * 4
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"model\.chat_template: chatml"):
        prepared(path)
    result = prepared(path, template="chatml")
    assert result.report.template == "chatml"
    ((_, before), (said, learned)) = result.report.mask_preview[0].segments
    assert (before, said.strip(), learned) == (False, "ho</s>", True)


def test_prompts_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="prompts without answers"):
        make_job([], prompts=["Once upon a time"], repeat=2)


def entries(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}


def test_the_cache_follows_everything_that_matters(
    prepared: Prepare, tmp_path: Path, qwen: PreTrainedTokenizerFast
) -> None:
    path = pairs(tmp_path / "a.jsonl")
    digests = [prepared(path).train.digest]
    known = entries(tmp_path)
    assert prepared(path).train.digest == digests[0] and entries(tmp_path) == known
    changes: list[dict[str, Any]] = [
        {"max_length": 20},
        {"tokenizer": qwen},
        {"template": "chatml"},
        {"template": "zephyr"},
        {"loss_on": "all"},
        {"limit": 5},
        {"seed": 8},
        {"packing": True},
    ]
    for change in changes:
        digests.append(prepared(path, **change).train.digest)
        assert entries(tmp_path) > known, change
        known = entries(tmp_path)
    assert len(set(digests)) == len(digests)
    pairs(path, 61)
    assert prepared(path).train.digest not in digests
    # A tokenizer that only differs in one special token gives other rows.
    other = data_factories.byte_level()
    other.eos_token = "<|endoftext|>"
    assert prepared(path, tokenizer=other).train.digest not in digests


def test_the_cache_does_not_follow_names_of_folders(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    known = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        pairs(tmp_path / folder / "a.jsonl")
        job = make_job(tmp_path / folder / "a.jsonl")
        prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / folder / "run")
        known.append(entries(tmp_path))
    assert known[0] == known[1]


def test_an_unwritable_cache_is_worked_around(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "file").touch()
    job = make_job(pairs(tmp_path / "a.jsonl"))
    result = prepare(job, llama, cache_dir=tmp_path / "file" / "c", run_dir=tmp_path / "run")
    assert any("cannot be written" in warning for warning in result.report.warnings)
    assert len(ids(result.train)) == 60


def test_many_rows_are_tokenized_by_several_processes(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pairs(tmp_path / "a.jsonl", 700)
    path.write_text(path.read_text() + "not json\n" + path.read_text())
    alone = prepared(path, on_error="skip", workers=1)
    monkeypatch.setattr("training.data.tokenization.workers._PARALLEL_ROWS", 500)
    for entry in (tmp_path / "cache").iterdir():
        if entry.is_dir():
            (entry / "sizes.json").unlink()
    together = prepared(path, on_error="skip", workers=2)
    assert together.train.digest == alone.train.digest
    assert ids(together.train) == ids(alone.train)
    assert together.report.rows_skipped == 1


def test_texts_for_a_tokenizer_and_for_forgetting(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    path = documents(tmp_path / "d.jsonl", 10)
    assert [t.split()[1] for t in iter_texts(make_job(path, method="pretrain"))] == [
        str(i) for i in range(10)
    ]
    (pair,) = list(iter_texts(make_job(pairs(tmp_path / "p.jsonl", 1))))
    assert pair == "What is p 0?\nIt is the number 0 of p."
    source = Source(source=str(path))
    table = load_texts(source, llama, max_length=32, cache_dir=tmp_path / "c", limit=4)
    assert {base(id_) for id_ in ids(table)} == {f"d.jsonl:{i}" for i in (1, 2, 3, 4)}
    assert all(len(table[i]["input_ids"]) <= 32 for i in range(len(table)))


def test_a_stories_file_can_be_split(prepared: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Scene {i}. " + "the cat sat on a mat. " * 20 for i in range(200)))
    split = {"split": "2%"}
    result = prepared(path, method="pretrain", max_length=128, validation=split, packing=True)
    assert result.validation is not None and len(result.validation) > 0
    assert not {base(i) for i in ids(result.train)} & {base(i) for i in ids(result.validation)}


@pytest.mark.parametrize(("labels", "said"), [((True,), True), ((False, True), False)])
def test_answers_of_one_kind_alone_are_pointed_out(
    prepared: Prepare, tmp_path: Path, labels: tuple[bool, ...], said: bool
) -> None:
    rows = [
        {"prompt": f"q {i}", "completion": "the cat", "label": labels[i % len(labels)]}
        for i in range(12)
    ]
    data = write_jsonl(tmp_path / "a.jsonl", rows)
    result = prepared(data, method="kto", max_length=64)
    found = [w for w in result.report.warnings if "every answer is labelled good" in w]
    assert bool(found) is said


def test_rows_that_come_twice_are_pointed_out(prepared: Prepare, tmp_path: Path) -> None:
    path = pairs(tmp_path / "a.jsonl", 10)
    path.write_text(path.read_text() * 2)
    # The same text under another name: what is held out is trained on, too.
    held = tmp_path / "b.jsonl"
    held.write_text(path.read_text().splitlines()[0] + "\n")
    report = prepared(path, validation=str(held)).report
    assert (report.repeated, report.leaked) == (10, 1)
    assert "1 of the held-out rows are trained on too" in report.warnings[0]
    assert "10 of the training rows repeat another one" in report.warnings[1]


def test_a_weight_repeats_nothing(prepared: Prepare, tmp_path: Path) -> None:
    two = [{"source": str(pairs(tmp_path / "a.jsonl", 10, "a")), "weight": 3},
           str(pairs(tmp_path / "b.jsonl", 10, "b"))]  # fmt: skip
    report = prepared(two, validation={"split": "10%"}).report
    assert (report.repeated, report.leaked) == (0, 0)
    assert not any("repeat" in warning for warning in report.warnings)


def test_unread_columns_next_to_plain_text_are_reported(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"text": f"the dog {i}", "kind": "animal"} for i in range(4)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert "not read: kind" in prepared(path).report.warnings[0]
    assert prepared(path, method="pretrain").report.warnings == ()


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_answers_to_one_prompt_stay_on_one_side(
    tmp_path: Path, llama: PreTrainedTokenizerFast, kind: str
) -> None:
    pair = [{"chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(4)]
    judged = [{"completion": f"yes {n}", "label": n % 2 == 0} for n in range(4)]
    rows = [
        {"prompt": f"What is number {i}?", **answer}
        for answer in (pair if kind == "dpo" else judged)
        for i in range(20)
    ]
    job = make_job(
        write_jsonl(tmp_path / "rows.jsonl", rows),
        validation={"split": "25%"},
        method=kind,
    )
    result = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    assert result.validation is not None
    asked = [
        {(int(name.partition(":")[2]) - 1) % 20 for name in ids(side)}
        for side in (result.train, result.validation)
    ]
    assert not asked[0] & asked[1]
    assert (len(asked[1]), len(result.validation)) == (5, 20)


def test_a_prompt_shared_by_nearly_all_rows_is_not_grouped(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    rows = [{"prompt": "Sing.", "chosen": f"la {n}", "rejected": f"lo {n}"} for n in range(20)]
    job = make_job(
        write_jsonl(tmp_path / "rows.jsonl", rows),
        validation={"split": "25%"},
        method="dpo",
    )
    result = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    assert result.validation is not None
    assert (len(result.train), len(result.validation)) == (15, 5)
