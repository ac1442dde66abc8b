"""How FFmpeg is started: as a child, or, where children do not outlive their parent, as an orphan."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

ORPHANED = """exec %d<&0; { "$@"; echo "exit=$?" >>/dev/fd/%d; } <&%d %d<&- &"""
"""What a shell runs: a command in the background, which has its stdin all the same, and whose exit code is reported."""


class Orphan:
    """A process that nobody is the parent of, with what `subprocess.Popen` has of one.

    Ray kills the direct children of a worker when that ends, before they have finished their files.

    Args:
        command: as for `Popen`.
        report: a file that the command inherits; its exit code is appended there.
        settings: as for `Popen`; with ``stdout=PIPE``, which ends when the process has.
    """

    def __init__(self, command: Sequence[str], report: int, **settings: Any) -> None:
        spare = 4 if report == 3 else 3
        script = ORPHANED % (spare, report, spare, spare)
        shell = subprocess.Popen(["/bin/sh", "-c", script, "sh", *command], **settings)
        assert shell.stdout is not None
        self.stdin, self.stdout, self.pid = shell.stdin, shell.stdout, shell.pid
        self._report = report
        self.returncode: int | None = None
        shell.wait()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code; -9 if it was killed."""
        if self.returncode is None:
            end = select.poll()
            end.register(self.stdout.fileno(), 0)
            end.poll()
            code = re.search(rb"exit=(\d+)\n$", os.pread(self._report, 2**20, 0))
            self.returncode = int(code[1]) if code else -signal.SIGKILL
        return self.returncode


def start(command: Sequence[str], report: int, **settings: Any) -> "subprocess.Popen[bytes] | Orphan":
    """Start a process that inherits the file `report`, in a session of its own: Ctrl-C is not for it."""
    settings |= {"bufsize": 0, "start_new_session": True, "pass_fds": [report]}
    ray: Any = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return Orphan(command, report, **settings)
    return subprocess.Popen(command, **settings)
