"""Programs run in a sandbox, and only honest passes count."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pydantic import TypeAdapter

from training.config.rewards import CodeTestsReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards import code_tests
from training.rewards.base import Reward
from training.rewards.context import RewardContext
from training.rewards.sandbox import seccomp

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the sandbox needs the Linux kernel"
)


def reward(**keys: Any) -> Reward:
    section = TypeAdapter(CodeTestsReward).validate_python({"kind": "code_tests", **keys})
    return code_tests.build(section, RewardContext(torch.device("cpu"), Path()))


@pytest.fixture(scope="module")
def tests() -> Reward:
    return reward(timeout="2s", processes=2)


def given(to: Reward, answer: str, tests: Any = ("assert f(2) == 4", "assert f(3) == 9")) -> float:
    found = list(tests) if isinstance(tests, tuple) else tests
    return to.score(["p"], [answer], [PromptRow("r", "p", None, {"test_list": found})])[0]


RIGHT = "def f(x):\n    return x * x\n"


def test_a_correct_program_passes(tests: Reward) -> None:
    assert given(tests, RIGHT) == 1
    assert given(tests, f"Here it is:\n```python\n{RIGHT}```\nGood luck!") == 1


def test_the_score_is_the_share_of_passed_tests(tests: Reward) -> None:
    assert given(tests, "def f(x): return 4") == 0.5
    assert given(reward(timeout="2s", partial=False), "def f(x): return 4") == 0
    assert given(tests, "def f(x) return") == 0
    assert given(tests, "") == 0


def test_a_single_test_program_is_called_with_the_function(tests: Reward) -> None:
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
def test_attacks_on_the_machine_fail(tests: Reward, tmp_path: Path, port: int, attack: str) -> None:
    """Each program passes its test only if the attack succeeds."""
    there = tmp_path / "there"
    there.write_text("unchanged")
    code = ATTACKS[attack].format(port=port, home=tmp_path)
    assert given(tests, f"{RIGHT}\n{code}\n") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert there.read_text() == "unchanged"


CHEATS = {
    "is equal to everything": """
class Same:
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: 0
    __contains__ = lambda self, other: True
f = lambda x: Same()
""",
    "is a number that is equal to everything": """
class Same(int):
    __eq__ = lambda self, other: True
f = lambda x: Same(7)
""",
    "changes the builtins": """
import builtins
f = lambda x: 7
for name in ("exec", "compile", "abs", "all", "sorted", "set"):
    setattr(builtins, name, lambda *args: 0)
""",
    "changes a module": """
import math
f = lambda x: 7
math.isclose = lambda *args, **named: True
""",
    "brings a module of its own": """
f = lambda x: 7
class math:
    isclose = lambda *args, **named: True
""",
    "looks for the tests in frames and memory": """
import gc, sys
frame, seen = sys._getframe(), []
while frame:
    seen += [frame.f_locals, frame.f_globals]
    frame = frame.f_back
dicts = [o for o in gc.get_objects() + seen if isinstance(o, dict)]
found = [o for o in dicts if "tests" in o or "nonce" in o]
f = lambda x: {2: 4, 3: 9}[x] if found else 7
""",
    "reads the examiner's input and memory": """
import os
def f(x):
    for name in (f"/proc/{os.getppid()}/fd/0", f"/proc/{os.getppid()}/mem", "/proc/self/fd/0"):
        with open(name, "rb"):
            return {2: 4, 3: 9}[x]
""",
    "catches a signal and the end": """
import atexit, signal
f = lambda x: 7
atexit.register(lambda: print("passed"))
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True: pass
""",
    "prints without end": """
while True: print("x" * 10000)
""",
    "answers before it is asked": """
import os
for number in range(3, 64):
    try:
        os.write(number, b'00000019{"nonce": "", "passed": 2}')
    except OSError:
        pass
f = lambda x: 7
""",
    "leaves early": "import os\nos._exit(0)",
    "raises SystemExit": "raise SystemExit(0)",
    "says that it passed": "import os\nos.write(3, b'{{\"passed\": 2}}')\nos._exit(0)",
    "never ends": "while True: pass",
    "sleeps": "import time\ntime.sleep(60)",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_passes_no_test(tests: Reward, cheat: str) -> None:
    start = time.monotonic()
    asked = ("assert f(2) == 4", "import math\nassert math.isclose(f(3), 9) and abs(f(3) - 9) < 1")
    assert given(tests, f"{RIGHT}\n{CHEATS[cheat]}\n", asked) == 0
    assert time.monotonic() - start < 60


HONEST = {
    "changes what it is given": ("def f(x): x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]"),
    "raises": ("def f(x): raise KeyError(x)", "try: f(1)\nexcept KeyError: pass\nelse: 1 / 0"),
    "is given a function": ("def f(g): return [g(1)]", "assert f(lambda x: x + 1) == [2]"),
    "is given a class": ("def f(t): return isinstance(1, t)", "assert f(int) and not f(str)"),
    "yields": ("def f(x):\n    yield from x", "assert list(f({1})) == [1] and next(f('a')) == 'a'"),
    "defines a class": (
        "class S:\n    def __init__(self): self.x = []\n    def push(self, v): self.x.append(v)\n"
        "    def __len__(self): return len(self.x)",
        "s = S()\ns.push((1, 'é'))\nassert len(s) == 1 and s.x == [(1, 'é')]",
    ),
    "gives back much": (
        "from collections import Counter, namedtuple\nP = namedtuple('P', 'x y')\n"
        "def f(): return {1: {2}, 'a': 1j, b'b': P(1, 1e999), (): Counter('aa'), 2: 9**9999}",
        "assert f() == {1: {2}, 'a': 1j, b'b': (1, 1e999), (): {'a': 2}, 2: 9**9999}",
    ),
    "uses a module": ("import math\ndef f(x): return x", "assert math.isclose(f(1), 1)"),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_program_passes(tests: Reward, what: str) -> None:
    code, test = HONEST[what]
    assert given(tests, code, (test,)) == 1


def test_setup_may_come_before_or_after(tests: Reward) -> None:
    node = "class Node:\n    def __init__(self, v): self.v = v\n"
    setup = {"test_setup_code": f"{node}N = 2\ndef make(v): return Node(v)"}
    tree = {"test_setup_code": "root = Node(2)\nroot.left = Node(3)"}
    for code, columns, test in (
        ("def f(n): return n.v + N", setup, "assert f(Node(1)) == 3 and f(make(2)) == 4"),
        (f"{node}def f(n): return n.left.v", tree, "assert f(root) == 3"),
    ):
        row = PromptRow("r", "p", None, {"test_list": [test], **columns})
        assert tests.score(["p"], [code], [row]) == [1]


def test_no_process_survives_a_timeout(tests: Reward, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **more: Any):
            super().__init__(*given, **more)
            begun.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    assert given(tests, "import time\ntime.sleep(600)") == 0
    time.sleep(0.2)
    # Each run is a session of its own, whose id is that of its first process.
    assert begun
    assert not [one for one in psutil.process_iter() if _runs_in(one, begun)]


def _runs_in(process: psutil.Process, sessions: list[int]) -> bool:
    try:
        return os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def test_the_environment_is_empty(tests: Reward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TRAINER", "x")
    program = "import os\ndef f(x): return 'SECRET_OF_THE_TRAINER' in os.environ"
    assert given(tests, program, ["assert not f(1)"]) == 1


def test_a_row_without_tests_is_explained(tests: Reward) -> None:
    with pytest.raises(DataError, match=r"r: .*no tests in the column 'test_list'.*other"):
        tests.score(["p"], [RIGHT], [PromptRow("r", "p", None, {"other": 1})])


def test_the_filter_names_calls_of_both_architectures() -> None:
    for machine in ("x86_64", "aarch64"):
        for code, true, false, constant in seccomp.build_filter(machine):
            assert 0 <= true < 256 and 0 <= false < 256
            assert 0 <= constant < 2**32
            assert code in {0x20, 0x15, 0x35, 0x45, 0x06}
