"""A script in a fork ends as it does in an interpreter of its own."""

import pytest
from processes import COMMAND, run_python

ENDS = {
    "the end": "print('x', end='')",
    "a code": "import sys; sys.exit(3)",
    "a large code": "import sys; sys.exit(300)",
    "a text": "import sys; sys.exit('sorry')",
    "an exception": "raise ValueError('x')",
    "Ctrl-C": "raise KeyboardInterrupt",
    "a function at exit": "import atexit; atexit.register(print, 'at exit')",
    "another end at exit": "import atexit, os; atexit.register(os._exit, 9)",
    "an object that is deleted": """
        class Last:
            def __del__(self):
                print("deleted")

        last, round = Last(), Last()
        round.round = round
    """,
    "a thread": "import threading; threading.Timer(0.1, print, ['late']).start()",
    "no pipe": "import sys; sys.stdout.close()",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_fork_ends_as_an_interpreter_does(end):
    alone, forked = (run_python(ENDS[end], check=False, has=has) for has in ((), COMMAND))
    assert (forked.returncode, forked.stdout) == (alone.returncode, alone.stdout)
    assert forked.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]
