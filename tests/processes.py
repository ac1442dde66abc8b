"""Other interpreters: for what happens at the end of one, and for one that lacks a package."""

import subprocess
import sys
import textwrap
from pathlib import Path

SECONDS = 120
"""More than any script takes, unless it hangs."""


def run_python(script: str | Path, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script, or the file of one, to its end, in the working directory."""
    source = ["-c", textwrap.dedent(script)] if isinstance(script, str) else [str(script)]
    command = [sys.executable, *source, *map(str, args)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert not check or done.returncode == 0, done.stderr
    return done


def without(*packages: str) -> str:
    """Return the beginning of a script for which these packages are not installed."""
    # None there means: not to be found, neither by import nor by `importlib.util.find_spec`
    return f"import sys; sys.modules.update(dict.fromkeys({packages}))\n"
