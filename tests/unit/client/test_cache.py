"""Response cache: what is answered from it, and what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from client import Client, ClientSettings, OpenAiEndpoint, ResponseCache
from client.chat import ChatCall, ModelReply, TokenUsage
from tests.unit.client.fault_server import FaultServer, Planned

MESSAGES = [{"role": "user", "content": "How are you?"}]
ENDED = ModelReply("Fine.", "stop", TokenUsage(5, 10))
CUT = ModelReply("Fine, and", "length", TokenUsage(5, 4))


def call(**settings: Any) -> ChatCall:
    return ChatCall(MESSAGES, **{"temperature": 0, **settings})


def test_an_answer_fits_calls_with_other_limits() -> None:
    cache = ResponseCache()
    cache.put(("a",), call(max_tokens=100), ENDED)
    assert cache.get(("a",), call(max_tokens=10)) == ENDED
    assert cache.get(("a",), call()) == ENDED
    assert cache.get(("a",), call(max_tokens=9)) is None
    cache.put(("b",), call(max_tokens=4), CUT)
    assert cache.get(("b",), call(max_tokens=4)) == CUT
    assert cache.get(("b",), call(max_tokens=5)) is None
    assert cache.get(("b",), call()) is None


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.1}, {"top_p": 0.5}, {"stop": ("x",)}, {"seed": 1},
                 {"extra": {"top_k": 1}}, {"messages": [{"role": "user", "content": "How"}]}]
)  # fmt: skip
def test_all_that_determines_an_answer_is_compared(settings: dict[str, Any]) -> None:
    cache = ResponseCache()
    cache.put(("a",), call(), ENDED)
    assert (
        cache.get(("a",), ChatCall(**{"messages": MESSAGES, "temperature": 0, **settings})) is None
    )
    assert cache.get(("other endpoint",), call()) is None
    assert cache.get(("a",), call()) == ENDED


def test_old_and_unused_answers_are_dropped(tmp_path: Path) -> None:
    now = [0.0]
    cache = ResponseCache(tmp_path / "c", max_entries=2, ttl_s=10, clock=lambda: now[0])
    for name in "ab":
        now[0] += 1
        cache.put((name,), call(), ENDED)
    now[0] += 1
    assert cache.get(("a",), call()) is not None
    now[0] += 1
    cache.put(("c",), call(), ENDED)
    assert [cache.get((name,), call()) is not None for name in "abc"] == [True, False, True]
    now[0] = 12
    assert cache.get(("a",), call()) is None


def test_a_cache_on_disk_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c.sqlite"
    ResponseCache(path).put(("a",), call(), ENDED)
    child = os.fork()
    if not child:
        cache = ResponseCache(path)
        os._exit(0 if cache.get(("a",), call()) == ENDED else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_calls_through_a_client(server: FaultServer) -> None:
    settings = ClientSettings(cache=ResponseCache())
    with Client(OpenAiEndpoint(server.url, "tiny"), settings) as client:
        first = client.chat(MESSAGES, temperature=0, max_tokens=50)
        again = client.chat(MESSAGES, temperature=0, max_tokens=40)
        stream = client.stream(MESSAGES, temperature=0)
        assert "".join(part.text for part in stream) == first.text == again.text
        assert len(server.requests) == 1
        assert (first.from_cache, again.from_cache) == (False, True)
        # A stream fills the cache as well, unless it breaks off.
        list(client.stream(MESSAGES, seed=4))
        assert client.chat(MESSAGES, seed=4).from_cache
        server.default = Planned(cut_after=3)
        with pytest.raises(Exception, match="broke off"):
            list(client.stream(MESSAGES, seed=5))
        server.default = Planned()
        assert not client.chat(MESSAGES, seed=5).from_cache
        # Samples are not cached.
        assert not any(client.chat(MESSAGES, temperature=1).from_cache for _ in range(2))
