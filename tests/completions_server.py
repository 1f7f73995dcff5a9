"""Server of a real model on this machine with the completions API of vLLM.

It computes with Transformers and answers in the shape of vLLM's OpenAI server
(https://github.com/vllm-project/vllm, vllm/entrypoints/openai/completion/serving.py): with `echo`
the prompt's tokens come before the generated ones, the first without a log-probability, and
`text_offset` is the sum of the lengths of the tokens' texts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Body = dict[str, Any]
Alter = Callable[[Body, Body], Body | str]
"""Returns the response to a request in place of the true one, which is the second argument."""


class CompletionsServer:
    """The served model, the calls that it received, and faults to plant.

    Attributes:
        calls: Path and body of every call.
        statuses: Status and headers of the next calls in place of an answer, in order.
        alter: Changes responses.
        dies_after: Number of calls after which connections are closed without an answer.
        url: Address with the path prefix of the API.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, Body]] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.alter: Alter | None = None
        self.dies_after: int | None = None
        self.url = ""
        self._lock = threading.Lock()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.max_model_len = int(self._model.config.max_position_embeddings)
        ends = self._model.generation_config.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}

    def models(self) -> Body:
        """Return the list of models."""
        card = {"id": self.name, "object": "model", "max_model_len": self.max_model_len}
        return {"object": "list", "data": [card]}

    def completion(self, body: Body) -> tuple[int, Body]:
        """Return status and response of a call of `/completions`."""
        prompt = body["prompt"]
        ids = self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        return self._respond(ids, prompt, body)

    def chat(self, body: Body) -> tuple[int, Body]:
        """Return status and response of a call of `/chat/completions`."""
        text = self._tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        status, response = self._respond(ids, text, body)
        if status != 200:
            return status, response
        choice = response["choices"][0]
        message = {"role": "assistant", "content": choice["text"]}
        choice = {"index": 0, "message": message, "finish_reason": choice["finish_reason"]}
        return 200, {**response, "object": "chat.completion", "choices": [choice]}

    def _respond(self, ids: list[int], prompt: Any, body: Body) -> tuple[int, Body]:
        wanted = body["max_tokens"]
        if len(ids) + wanted > self.max_model_len:
            # vllm/renderers/params.py, TokenizeParams._token_len_check
            message = (
                f"This model's maximum context length is {self.max_model_len} tokens. However, you "
                f"requested {wanted} output tokens and your prompt contains {len(ids)} input "
                f"tokens, for a total of {len(ids) + wanted} tokens. Please reduce the length of "
                f"the input prompt or the number of requested output tokens."
            )
            return 400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}
        with self._lock, torch.inference_mode():
            generated, logits = self._generate(ids, body)
        text = self._text_after(ids, generated)
        ended = bool(generated) and generated[-1] in self._ends
        for stop in body.get("stop", ()):
            if stop in text:
                text, ended = text[: text.index(stop)], True
        choice: Body = {"index": 0, "text": text, "logprobs": None}
        choice["finish_reason"] = "stop" if ended else "length"
        if body.get("echo"):
            shown = prompt if isinstance(prompt, str) else self._tokenizer.decode(ids)
            choice["text"] = shown + text
            choice["logprobs"] = self._logprobs([*ids, *generated], logits)
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(generated)}
        return 200, {"object": "text_completion", "choices": [choice], "usage": usage}

    def _text_after(self, ids: list[int], generated: list[int]) -> str:
        """Return generated tokens as text after the prompt's, with the space between them.

        Servers decode answers with the prompt before them; decoded alone, tokens of a SentencePiece
        tokenizer lose a space at their start.
        """
        before = self._tokenizer.decode(ids, skip_special_tokens=True)
        whole = self._tokenizer.decode([*ids, *generated], skip_special_tokens=True)
        return str(whole[len(before) :])

    def _generate(self, ids: list[int], body: Body) -> tuple[list[int], torch.Tensor]:
        """Return generated tokens, and the logits after each token but the last."""
        tokens = list(ids)
        generator = torch.Generator().manual_seed(body.get("seed", 0))
        while True:
            logits = self._model(torch.tensor([tokens])).logits[0]
            if len(tokens) - len(ids) == body["max_tokens"] or (
                len(tokens) > len(ids) and tokens[-1] in self._ends
            ):
                return tokens[len(ids) :], logits
            if body["temperature"]:
                weights = (logits[-1] / body["temperature"]).softmax(-1)
                tokens.append(int(torch.multinomial(weights, 1, generator=generator)))
            else:
                tokens.append(int(logits[-1].argmax()))

    def _logprobs(self, tokens: list[int], logits: torch.Tensor) -> Body:
        values = logits.log_softmax(-1)
        texts = [self._tokenizer.decode([token]) for token in tokens]
        offsets = [sum(map(len, texts[:number])) for number in range(len(texts))]
        chosen: list[float | None] = [None]
        top: list[dict[str, float] | None] = [None]
        for number, token in enumerate(tokens[1:]):
            best = int(values[number].argmax())
            chosen.append(float(values[number, token]))
            pairs = {best: float(values[number, best]), token: chosen[-1]}
            top.append({self._tokenizer.decode([one]): value for one, value in pairs.items()})
        return {
            "text_offset": offsets,
            "token_logprobs": chosen,
            "tokens": texts,
            "top_logprobs": top,
        }


@contextmanager
def serving_model(
    folder: str | Path, name: str = "stories", port: int = 0
) -> Iterator[CompletionsServer]:
    """Serve the model in a folder on the loopback interface.

    Args:
        folder: Folder of the model.
        name: Name of the model in calls.
        port: Port; a free one if 0.
    """
    served = CompletionsServer(str(folder), name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, served.models())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.calls.append((self.path, body))
            if served.dies_after is not None and len(served.calls) > served.dies_after:
                self.close_connection = True
                return
            if served.statuses:
                status, headers = served.statuses.pop(0)
                self._send(status, {"error": {"message": "planted"}}, headers)
                return
            answer = served.chat if self.path.endswith("/chat/completions") else served.completion
            status, response = answer(body)
            altered = served.alter(body, response) if served.alter else response
            self._send(status, altered)

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *ignored: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
