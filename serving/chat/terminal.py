"""Terminal of a chat: lines of the user, commands, streamed answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from serving.chat.chat_model import ChatModel, ChatSettings
from serving.chat.history import ChatHistory, Choice, append_row
from serving.errors import RequestError
from training.errors import DataError

HELP = """\
/again          another answer to the same question, next to the first
/save a|b|tie   save the two answers and which is better, for `temper feedback`
/keep a|b       continue with this answer (a, unless told otherwise)
/system TEXT    set the system message of a new conversation; without TEXT, none
/seed N         set the seed
/temperature T  set the temperature; 0 for the most likely answer
/reset          start a new conversation
/quit           end (also Ctrl-D)
"""
_CHOICES: dict[str, Choice] = {"a": "a", "b": "b", "tie": "tie"}
_SIDES = ("A", "B")


class ChatTerminal:
    """Chat with one model, or with two that answer the same questions.

    Args:
        models: The models, at most two.
        settings: Settings of their answers.
        system: System message.
        file: File of saved feedback.
        write: Writes text to the terminal at once.
    """

    def __init__(
        self,
        models: list[ChatModel],
        settings: ChatSettings,
        system: str,
        file: Path,
        write: Callable[[str], object],
    ):
        self._models, self._settings, self._file, self._write = models, settings, file, write
        self.conversation = ChatHistory(system)

    def line(self, text: str) -> bool:
        """Answer a line or obey a command, and return False when the chat ends."""
        text = text.strip()
        if not text:
            return True
        if not text.startswith("/"):
            self.conversation.ask(text)
            self._answer()
            return True
        name, _, argument = text[1:].partition(" ")
        if name in {"quit", "exit", "q"}:
            return False
        command = {
            "again": self._again,
            "save": self._save,
            "keep": self._keep,
            "system": self._system,
            "seed": self._seed,
            "temperature": self._temperature,
            "reset": self._reset,
            "help": self._help,
        }.get(name)
        if command is None:
            self._write(f"there is no /{name}\n{HELP}")
        else:
            command(argument.strip())
        return True

    def _answer(self) -> None:
        """Stream the answer of every model to the last question."""
        for side, model in zip(_SIDES, self._models, strict=False):
            label = f"{side} ({model.name}): " if len(self._models) > 1 else ""
            if not self._stream(model, label, 0):
                return

    def _stream(self, model: ChatModel, label: str, draw: int) -> bool:
        """Write an answer while it is generated, and return False if there is none.

        Ctrl-C ends the answer and keeps what has been written.
        """
        self._write(label)
        parts: list[str] = []
        try:
            answer = model.answer(self.conversation.messages, self._settings, draw)
            with closing(answer):
                for part in answer:
                    parts.append(part)
                    self._write(part)
        except KeyboardInterrupt:
            self._write(" …")
        except (RequestError, DataError) as error:
            self._write(f"{error}\n")
            return False
        self._write("\n")
        self.conversation.answers.append("".join(parts))
        return True

    def _again(self, _: str) -> None:
        if self.conversation.question is None or len(self._models) > 1:
            self._write("/again needs one model and a question that it has answered\n")
            return
        del self.conversation.answers[1:]
        self._stream(self._models[0], "B (again): ", 1)

    def _save(self, argument: str) -> None:
        if argument not in _CHOICES or len(self.conversation.answers) < 2:
            self._write(
                "/save needs two answers to the last question (--against, or /again), and which is "
                "better: a, b or tie\n"
            )
            return
        names = (self._models[0].name, self._models[-1].name)
        append_row(self._file, self.conversation.feedback_row(_CHOICES[argument], names))
        self._write(f"saved to {self._file}: temper feedback {self._file}\n")

    def _keep(self, argument: str) -> None:
        place = "ab".find(argument) if argument else -1
        if not 0 <= place < len(self.conversation.answers):
            self._write("/keep needs an answer to the last question: a or b\n")
            return
        self.conversation.kept = place

    def _system(self, argument: str) -> None:
        self.conversation.system = argument
        self._reset("")

    def _reset(self, _: str) -> None:
        self.conversation.reset()
        self._write("a new conversation\n")

    def _seed(self, argument: str) -> None:
        if not argument.isdecimal():
            self._write(f"/seed {argument}: a seed is a number from 0\n")
            return
        self._settings = replace(self._settings, seed=int(argument))

    def _temperature(self, argument: str) -> None:
        try:
            value = float(argument)
        except ValueError:
            value = -1
        if not 0 <= value <= 2:
            self._write(f"/temperature {argument}: a temperature is from 0 to 2\n")
            return
        self._settings = replace(self._settings, temperature=value)

    def _help(self, _: str) -> None:
        self._write(HELP)
