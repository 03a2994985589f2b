"""Commands started by tests, and whether they leave processes behind."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "RELABEL_TEST_MARK"


class Command:
    """A command in a process group of its own, whose descendants are known by a mark in their environment."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        program: Sequence[str] = ("-m", "relabel"),
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._stderr = cwd / f"stderr-{self._mark}"
        with self._stderr.open("wb") as stderr, (cwd / f"stdout-{self._mark}").open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=cwd,
                env={**os.environ, **environment, MARK: self._mark},
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self._stdout = cwd / f"stdout-{self._mark}"

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._stdout.read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        return self._stderr.read_text("utf-8", "replace")

    def wait(self, timeout: float = 300) -> int:
        """Return the exit code."""
        return self.process.wait(timeout)

    def left(self, patience: float = 30) -> list[str]:
        """Return the command lines of processes that it started and that still run after so many seconds."""
        ends = time.monotonic() + patience
        while (found := running(self._mark)) and time.monotonic() < ends:
            time.sleep(0.2)
        return list(found.values())


def running(mark: str) -> dict[int, str]:
    """Return the command lines, by process, of all that run with this mark in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found[int(folder.name)] = line
        except OSError:
            continue
    return {process: line for process, line in found.items() if line}
