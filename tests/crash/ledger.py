"""What bodies did, written by themselves: the witness that does not ask our own database."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One word of one attempt of one task run."""

    task_run: str
    epoch: int
    word: str


class Ledger:
    """A file to which all bodies append; a line is short enough for the kernel to write it in one piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        path.chmod(0o666)  # bodies may run under another user

    def command(self, word: str) -> str:
        """Return the shell command by which a body says a word."""
        return f'echo "$MAINSTEM_TASKRUN $MAINSTEM_EPOCH {word}" >> {self.path}'

    def lines(self) -> list[Line]:
        """Return what was written, in order; a line that is being written now is left out."""
        whole, _, _ = self.path.read_text().rpartition("\n")
        words = [line.split() for line in whole.splitlines()]
        return [Line(task_run, int(epoch), word) for task_run, epoch, word in words]

    def open_attempts(self) -> int:
        """Return how many attempts have begun and not said `end`."""
        lines = self.lines()
        return len({(line.task_run, line.epoch) for line in lines if line.word == "begin"}) - len(
            {(line.task_run, line.epoch) for line in lines if line.word == "end"}
        )

    def begun(self) -> int:
        """Return how many attempts have begun."""
        return sum(line.word == "begin" for line in self.lines())

    def overlaps(self) -> list[str]:
        """Return one sentence for each attempt that wrote when it was over, or was carried out twice."""
        found = []
        for task_run, lines in self._by_run().items():
            epochs = [line.epoch for line in lines]
            if epochs != sorted(epochs):
                found.append(f"an older attempt of {task_run} wrote after a newer one began: {epochs}")
            said = [(line.epoch, line.word) for line in lines]
            if len(said) != len(set(said)):
                found.append(f"an attempt of {task_run} was carried out twice: {said}")
        return found

    def unfinished(self) -> list[str]:
        """Return one sentence for each task run that began and of which no attempt came to its end."""
        return [
            f"no attempt of {task_run} came to its end: {lines}"
            for task_run, lines in self._by_run().items()
            if not any(line.word == "end" for line in lines)
        ]

    def _by_run(self) -> dict[str, list[Line]]:
        by_run: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines():
            by_run[line.task_run].append(line)
        return by_run
