"""Compare `temper serve` with `transformers serve` on one model and machine: `make bench-serve`.

In each round every server is started in turn and answers 1, 4 and 16 clients. Numbers are medians
over the rounds; answers are greedy, and the texts of all servers are compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.serving.load import LoadResult, measure
from benchmarks.serving.servers import SERVERS, running

TOKENIZER = Path("../shared/data/models/tokenizers/gpt-neox-20b/tokenizer.json")
CLIENTS = (1, 4, 16)
PROMPT_WORDS, LEAST_REQUESTS = 48, 4
WORDS = ("the", "model", "reads", "a", "prompt", "and", "writes", "an", "answer", "while", "others")
Results = dict[tuple[str, int], list[LoadResult]]


def make_model(folder: Path, tokenizer_file: Path) -> int:
    """Save a Llama with random weights, and return the number of its parameters."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), eos_token="<|endoftext|>", pad_token="<|padding|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def prompts(clients: int) -> list[str]:
    """Return the prompts of a measurement, all different from their first word."""
    return [
        " ".join(
            WORDS[(place + step * (1 + place % 5)) % len(WORDS)] for step in range(PROMPT_WORDS)
        )
        + f" {place}"
        for place in range(max(LEAST_REQUESTS, clients))
    ]


def run_round(model: Path, folder: Path, tokens: int, results: Results) -> None:
    """Measure every server once.

    Args:
        model: Folder of the model.
        folder: Folder of the logs.
        tokens: Tokens of each answer.
        results: Takes the measurements.
    """
    for server in SERVERS:
        body = {
            "model": str(model),
            "max_tokens": tokens,
            "temperature": 0,
            **server.fields,
        }
        with running(server, model, folder / f"{server.name}.log") as url:
            measure(url, body, prompts(1), 1)  # the first request of a server is slower
            for clients in CLIENTS:
                result = measure(url, body, prompts(clients), clients)
                results[server.name, clients].append(result)
                print(
                    f"{server.name}, {clients} clients: {result.tokens_per_second:.1f} tokens/s, "
                    f"first {1000 * result.first_token:.0f} ms, "
                    f"between {1000 * result.inter_token:.1f} ms",
                    flush=True,
                )


def rows(results: Results) -> list[list[object]]:
    """Return the rows of the table."""
    ours = SERVERS[0].name
    lines: list[list[object]] = []
    for clients in CLIENTS:
        for server in SERVERS:
            found = results[server.name, clients]
            speed = median(one.tokens_per_second for one in found)
            ratios = [
                mine.tokens_per_second / theirs.tokens_per_second
                for mine, theirs in zip(results[ours, clients], found, strict=True)
            ]
            lines.append(
                [
                    clients,
                    server.name,
                    f"{1000 * median(one.first_token for one in found):,.0f}",
                    f"{1000 * median(one.inter_token for one in found):.1f}",
                    f"{speed:,.1f}",
                    "" if server.name == ours else f"{median(ratios):.2f}×",
                ]
            )
    return lines


def equal_answers(results: Results) -> str:
    """Return the number of answers that are the same from all servers, with that of all."""
    same = total = 0
    for clients in CLIENTS:
        for texts in zip(*(results[s.name, clients][0].texts for s in SERVERS), strict=True):
            same += len(set(texts)) == 1
            total += 1
    return f"{same} of {total}"


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    arguments = parser.parse_args()
    results: Results = defaultdict(list)
    loads: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        size = make_model(model, arguments.tokenizer)
        for _ in range(arguments.rounds):
            run_round(model, Path(folder), arguments.tokens, results)
            loads.append(os.getloadavg()[2])
    header = ["clients", "server", "first token, ms", "between tokens, ms", "tokens/s", "Temper is"]
    text = f"""## Serving

A Llama of {size / 1e6:.0f}M parameters with random weights, fp32 on CPU; prompts of about
{PROMPT_WORDS} tokens, greedy answers of {arguments.tokens}, streamed to clients on the same
machine: {LEAST_REQUESTS} requests, or one of each client. "Temper is" is the median ratio of tokens
per second within each of {arguments.rounds} rounds. The answers of all servers are equal in
{equal_answers(results)} requests of the first round. The load average of the
machine was from {min(loads):.0f} to {max(loads):.0f}, of which the servers and
clients are 2: more is work of others.
{circumstances(("torch", "transformers"))} `make bench-serve`.

{table(header, rows(results))}
"""
    write_section("serving", text)
    print(text)


if __name__ == "__main__":
    main()
