"""Programs are run where they can do nothing but compute, and only honest passes count."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from training.config.rewards import CodeTests
from training.data.rows import PromptRow
from training.errors import DataError
from training.rewards import code_tests, jail
from training.rewards.reward import Place, Reward

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="programs are locked in by the Linux kernel"
)


def reward(**keys: Any) -> Reward:
    section = TypeAdapter(CodeTests).validate_python({"kind": "code_tests", **keys})
    return code_tests.build(section, Place(torch.device("cpu"), Path()))


@pytest.fixture(scope="module")
def tests() -> Reward:
    return reward(timeout="2s", processes=2)


def given(to: Reward, answer: str, tests: Any = ("assert f(2) == 4", "assert f(3) == 9")) -> float:
    found = list(tests) if isinstance(tests, tuple) else tests
    return to.score(["p"], [answer], [PromptRow("r", "p", None, {"test_list": found})])[0]


RIGHT = "def f(x):\n    return x * x\n"


def test_a_right_program_passes(tests: Reward) -> None:
    assert given(tests, RIGHT) == 1
    assert given(tests, f"Here it is:\n```python\n{RIGHT}```\nGood luck!") == 1


def test_the_share_of_tests_counts(tests: Reward) -> None:
    assert given(tests, "def f(x): return 4") == 0.5
    assert given(reward(timeout="2s", partial=False), "def f(x): return 4") == 0
    assert given(tests, "def f(x) return") == 0
    assert given(tests, "") == 0


def test_one_program_of_tests_is_called_with_the_function(tests: Reward) -> None:
    columns = {"test": "def check(g):\n    assert g(2) == 4\n", "entry_point": "f"}
    rows = [PromptRow("r", "def f(x):\n", None, columns)]
    humaneval = reward(tests="test", continues_prompt=True, timeout="2s")
    assert humaneval.score(["def f(x):\n"], ["    return x * x\n"], rows) == [1]
    assert humaneval.score(["def f(x):\n"], ["    return x\n"], rows) == [0]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


ATTACKS = {
    "connects": "import socket; socket.create_connection(('127.0.0.1', {port}))",
    "writes": "open('{home}/written', 'w').write('x')",
    "appends": "open('{home}/there', 'a').write('x')",
    "deletes": "import os; os.remove('{home}/there')",
    "renames": "import os; os.rename('{home}/there', '{home}/gone')",
    "starts a program": "import subprocess; subprocess.run(['true'], check=True)",
    "forks": "import os; os.fork()",
    "starts a thread": "import threading; threading.Thread(target=print).start()",
    "kills its parent": "import os; os.kill(os.getppid(), 9)",
    "eats memory": "x = bytearray(2**31)",
    "calls the kernel": "import ctypes; assert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_can_be_reached(tests: Reward, tmp_path: Path, port: int, attack: str) -> None:
    """Each program passes its test only where the attack does not fail."""
    there = tmp_path / "there"
    there.write_text("unchanged")
    code = ATTACKS[attack].format(port=port, home=tmp_path)
    assert given(tests, f"{RIGHT}\n{code}\n") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert there.read_text() == "unchanged"


CHEATS = {
    "leaves early": "import os\nos._exit(0)",
    "raises SystemExit": "raise SystemExit(0)",
    "says that it passed": "import os\nos.write(3, b'{{\"passed\": 2}}')\nos._exit(0)",
    "never ends": "while True: pass",
    "sleeps": "import time\ntime.sleep(60)",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_passes_nothing(tests: Reward, cheat: str) -> None:
    start = time.monotonic()
    assert given(tests, f"{RIGHT}\n{CHEATS[cheat]}\n") == 0
    assert time.monotonic() - start < 60


def test_the_environment_is_empty(tests: Reward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TRAINER", "x")
    program = "import os\ndef f(x): return 'SECRET_OF_THE_TRAINER' in os.environ"
    assert given(tests, program, ["assert not f(1)"]) == 1


def test_a_row_without_tests_is_explained(tests: Reward) -> None:
    with pytest.raises(DataError, match=r"r: .*no tests in the column 'test_list'.*other"):
        tests.score(["p"], [RIGHT], [PromptRow("r", "p", None, {"other": 1})])


def test_the_filter_names_calls_of_both_architectures() -> None:
    for machine in ("x86_64", "aarch64"):
        for code, true, false, constant in jail.rules(machine):
            assert 0 <= true < 256 and 0 <= false < 256
            assert 0 <= constant < 2**32
            assert code in {0x20, 0x15, 0x35, 0x45, 0x06}
