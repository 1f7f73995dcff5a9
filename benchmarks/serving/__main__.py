"""Compare `temper serve` with other servers of the same model on one machine: `make bench-serve`.

Safetensors are compared with `transformers serve`, a GGUF file of them with llama.cpp's own server.
In each round every server is started in turn and answers 1, 4 and 16 clients. Numbers are medians
over the rounds; answers are greedy, and the texts of all servers are compared. Three rounds take
about ten minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.serving.load import LoadResult, measure
from benchmarks.serving.servers import (
    ON_GGUF,
    ON_SAFETENSORS,
    ServerContestant,
    ServerProcess,
    running,
)
from training.export.formats import gguf

TOKENIZER = Path("../shared/data/models/tokenizers/gpt-neox-20b/tokenizer.json")
CLIENTS = (1, 4, 16)
PROMPT_WORDS, LEAST_REQUESTS = 48, 4
TURNS = 5
HEADER = (
    *("clients", "server", "first token, ms", "between tokens, ms", "tokens/s", "Temper is"),
    "CPU ms/token",
)
WORDS = ("the", "model", "reads", "a", "prompt", "and", "writes", "an", "answer", "while", "others")
SHAPES: dict[str, dict[str, int]] = {
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    # Qwen2.5-0.5B, the smallest of the models that people serve.
    "large": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}
Results = dict[tuple[str, int], list[LoadResult]]


def make_model(folder: Path, tokenizer_file: Path, shape: str) -> int:
    """Save a Llama with random weights, and return the number of its parameters.

    Args:
        folder: Folder of the model.
        tokenizer_file: Its `tokenizer.json`.
        shape: Name of its dimensions in `SHAPES`.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(plain_tokenizer(tokenizer_file)),
        eos_token="<|endoftext|>",
        pad_token="<|padding|>",
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        **SHAPES[shape],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def plain_tokenizer(file: Path) -> str:
    """Return a tokenizer without what GGUF cannot describe.

    That is a change of the text before it is split, and runs of spaces as tokens of their own.

    Args:
        file: Its `tokenizer.json`.
    """
    document = json.loads(file.read_text(encoding="utf-8"))
    document["normalizer"] = None
    document["added_tokens"] = [one for one in document["added_tokens"] if one["special"]]
    return json.dumps(document)


def prompts(clients: int) -> list[str]:
    """Return the prompts of a measurement, all different from their first word."""
    return [
        " ".join(
            WORDS[(place + step * (1 + place % 5)) % len(WORDS)] for step in range(PROMPT_WORDS)
        )
        + f" {place}"
        for place in range(max(LEAST_REQUESTS, clients))
    ]


def run_apart(
    servers: Sequence[ServerContestant], model: Path, log: Path, tokens: int, results: Results
) -> None:
    """Start every server in turn, alone on the machine, and measure it once.

    Args:
        servers: The servers.
        model: Folder or file of the model.
        log: File of what they write.
        tokens: Tokens of each answer.
        results: Takes the measurements.
    """
    for server in servers:
        with running(server, model, log) as process:
            warm_up(server, process, model, tokens)
            for clients in CLIENTS:
                run_one(server, process, model, tokens, clients, results)


def run_in_turns(
    servers: Sequence[ServerContestant], model: Path, log: Path, tokens: int, results: Results
) -> None:
    """Start servers that need nothing while they wait, and measure them in turns.

    What else the machine does then changes little between two that are compared.

    Args:
        servers: The servers.
        model: Folder or file of the model.
        log: File of what they write.
        tokens: Tokens of each answer.
        results: Takes the measurements.
    """
    with ExitStack() as stack:
        pairs = [(one, stack.enter_context(running(one, model, log))) for one in servers]
        for server, process in pairs:
            warm_up(server, process, model, tokens)
        for _ in range(TURNS):
            for clients in CLIENTS:
                for server, process in pairs:
                    run_one(server, process, model, tokens, clients, results)


def warm_up(server: ServerContestant, process: ServerProcess, model: Path, tokens: int) -> None:
    """Send requests of which the first is slower than those that follow.

    Args:
        server: The server.
        process: Its process.
        model: Folder or file of the model.
        tokens: Tokens of each answer.
    """
    measure(process, _body(server, model, tokens), prompts(1), 1)


def run_one(
    server: ServerContestant,
    process: ServerProcess,
    model: Path,
    tokens: int,
    clients: int,
    results: Results,
) -> None:
    """Measure a server under a number of clients.

    Args:
        server: The server.
        process: Its process.
        model: Folder or file of the model.
        tokens: Tokens of each answer.
        clients: Number of clients.
        results: Takes the measurement.
    """
    result = measure(process, _body(server, model, tokens), prompts(clients), clients)
    results[server.name, clients].append(result)
    print(
        f"{server.name}, {clients} clients: {result.tokens_per_second:.1f} tokens/s, "
        f"first {1000 * result.first_token:.0f} ms, "
        f"between {1000 * result.inter_token:.1f} ms, "
        f"CPU {1000 * result.server_cpu:.2f} ms/token",
        flush=True,
    )


def _body(server: ServerContestant, model: Path, tokens: int) -> dict[str, object]:
    return {"model": str(model), "max_tokens": tokens, "temperature": 0, **server.fields}


def rows(servers: Sequence[ServerContestant], results: Results) -> list[list[object]]:
    """Return the rows of a table."""
    ours = servers[0].name
    lines: list[list[object]] = []
    for clients in CLIENTS:
        for server in servers:
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
                    ""
                    if server.name == ours
                    else f"{median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})",
                    f"{1000 * median(one.server_cpu for one in found):.2f}",
                ]
            )
    return lines


def equal_answers(servers: Sequence[ServerContestant], results: Results) -> str:
    """Return the number of answers that are the same from all servers, with that of all."""
    same = total = 0
    for clients in CLIENTS:
        for texts in zip(*(results[s.name, clients][0].texts for s in servers), strict=True):
            same += len(set(texts)) == 1
            total += 1
    return f"{same} of {total}"


def safetensors_section(model: Path, size: int, arguments: argparse.Namespace) -> str:
    """Measure servers of safetensors, and return the section of the results page.

    Args:
        model: Folder of the model.
        size: Number of its parameters.
        arguments: Arguments of the command.
    """
    results: Results = defaultdict(list)
    loads = []
    for _ in range(arguments.rounds):
        run_apart(ON_SAFETENSORS, model, model.with_name("log"), arguments.tokens, results)
        loads.append(os.getloadavg()[2])
    return f"""## Serving

{_setting(size, arguments.tokens)} The weights are in fp32. "Temper is" is the median ratio of
tokens per second within each of {arguments.rounds} rounds, with the lowest and the highest; in a
round, every server is started alone. The answers of all servers are equal in
{equal_answers(ON_SAFETENSORS, results)} requests of the first round. {_load(loads)}
{circumstances(("torch", "transformers"))} `make bench-serve`.

{table(HEADER, rows(ON_SAFETENSORS, results))}
"""


def gguf_section(model: Path, size: int, arguments: argparse.Namespace) -> str:
    """Measure servers of a GGUF file, and return the section of the results page.

    Args:
        model: Folder of the model.
        size: Number of its parameters.
        arguments: Arguments of the command.
    """
    file = model.with_suffix(".gguf")
    gguf(model, file, outtype="Q8_0")
    results: Results = defaultdict(list)
    loads = []
    for _ in range(arguments.rounds):
        run_in_turns(ON_GGUF, file, model.with_name("log"), arguments.tokens, results)
        loads.append(os.getloadavg()[2])
    larger, option = ("larger ", " --model large") if arguments.model == "large" else ("", "")
    return f"""### Serving of a {larger}GGUF file

{_setting(size, arguments.tokens)} The file is in Q8_0. llama.cpp's own server is that of the same
bindings, in a process of its own with the same parameters; both are up and are asked in turns.
"Temper is" is the median ratio of tokens per second over {arguments.rounds * TURNS} turns, with the
lowest and the highest. The answers of both are equal in {equal_answers(ON_GGUF, results)} requests
of the first turn. {_load(loads)}
{circumstances(("xllamacpp",))} `make bench-serve ARGS="--only gguf{option}"`.

{table(HEADER, rows(ON_GGUF, results))}
"""


def _setting(size: int, tokens: int) -> str:
    return (
        f"A Llama of {size / 1e6:.0f}M parameters with random weights on a CPU; prompts of about "
        f"{PROMPT_WORDS} tokens,\ngreedy answers of {tokens}, streamed to clients on the same "
        f"machine: {LEAST_REQUESTS} requests, or one of each client. CPU time is that of the "
        f"server,\nwith the reading of prompts."
    )


def _load(loads: Sequence[float]) -> str:
    return (
        f"The load average of\n15 minutes was from {min(loads):.0f} to {max(loads):.0f}, of which "
        f"the servers and clients are 2: more is work of others{_priority()}."
    )


def _priority() -> str:
    """Return the priority of this session over others, if it is not the usual one."""
    try:
        level = Path("/proc/self/autogroup").read_text(encoding="utf-8").split()[-1]
    except OSError:
        return ""
    return "" if level == "0" else f",\nover which they had priority (autogroup nice {level})"


SECTIONS = {"safetensors": safetensors_section, "gguf": gguf_section}


def main() -> None:
    """Measure, print, and write the sections of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--model", choices=SHAPES, default="small", help="size of the model")
    parser.add_argument("--only", choices=SECTIONS, help="one of the comparisons")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        size = make_model(model, arguments.tokenizer, arguments.model)
        for name in [arguments.only] if arguments.only else SECTIONS:
            text = SECTIONS[name](model, size, arguments)
            section = "serving" if name == "safetensors" else f"serving-{name}"
            write_section(section + ("" if arguments.model == "small" else "-large"), text)
            print(text)


if __name__ == "__main__":
    main()
