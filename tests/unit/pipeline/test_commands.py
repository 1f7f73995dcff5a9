"""Commands of a pipeline: output kept, failures as their message, a stop passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.commands import CommandRunner
from training.errors import Interrupted, RunError

STOPPED_BY_SIGTERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""


def test_output_is_kept_and_progress_is_thinned_out(tmp_path: Path) -> None:
    shown: list[str] = []
    code = "print('one'); [print(f'step {n}/9 | loss 1') for n in range(9)]; print('two')"
    output = CommandRunner(shown.append, {}).run(tmp_path / "log.txt", "-c", code)
    assert output == (tmp_path / "log.txt").read_text()
    assert output.count("step") == 9
    assert shown == ["    one", "    step 0/9 | loss 1", "    two"]


def test_a_failure_has_the_message_and_the_code(tmp_path: Path) -> None:
    runner = CommandRunner(lambda line: None, {"WHY": "no space"})
    code = "import os, sys; print(os.environ['WHY']); sys.exit(3)"
    with pytest.raises(RunError, match="no space") as caught:
        runner.run(tmp_path / "log.txt", "-c", code)
    assert caught.value.exit_code == 3
    assert runner.run(tmp_path / "log.txt", "-c", code, allowed=(0, 3)) == "no space\n"


def test_a_stop_reaches_the_command_which_saves_and_ends(tmp_path: Path) -> None:
    stops = [KeyboardInterrupt()]

    def stop_once(line: str) -> None:
        if stops:
            raise stops.pop()

    with pytest.raises(Interrupted, match="resumes at this step"):
        CommandRunner(stop_once, {}).run(tmp_path / "log.txt", "-c", STOPPED_BY_SIGTERM)
    assert (tmp_path / "log.txt").read_text() == "ready\n"
