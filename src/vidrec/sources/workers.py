"""Questions to the workers of a `ParallelEnv`, each of which has an environment that its parent does not.

Between two commands a worker reads the name of an attribute of its environment, returns the attribute, and calls it if
it can be called. If the environment has none of that name, the worker ends, and so does the training. So the name is
sent as an object that becomes the name in the worker, while it is unpickled: it looks for the environment, and leaves
there what is to be called.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cloudpickle
from torchrl.envs import EnvBase, ParallelEnv

ATTRIBUTE = "_vidrec_question"
"""Where the question is left; it is called once."""

ANSWER_S = 0.1
"""How long to wait for a worker, before it is looked at whether it lives."""

Question = Callable[[EnvBase], Any]


class WorkerError(Exception):
    """A worker has not answered: it has ended, or what it was asked raised."""


def ask(env: ParallelEnv, questions: Mapping[int, Question]) -> list[Any]:
    """Return what each of `questions` returns for the environment of its worker; they answer at the same time.

    Args:
        env: its workers wait for a command.
        questions: by the number of the worker. They travel by cloudpickle, and the answers by pickle.

    Raises:
        WorkerError: a question raised, or a worker has ended. The others have answered.
    """
    answers, failed = [], ""
    for number, question in questions.items():
        env.parent_channels[number].send((_Question(cloudpickle.dumps(question)), ((), {})))
    for number in questions:
        try:
            _, (answer, error) = _receive(env, number)
        except (EOFError, OSError, TypeError) as why:
            answer, error = None, f"it does not answer: {why!r}"
        answers.append(answer)
        failed = failed or (error and f"worker {number} of {type(env).__name__}: {error}")
    if failed:
        raise WorkerError(failed)
    return answers


def can_be_asked(env: ParallelEnv) -> bool:
    """Return whether its workers have started, and have not ended."""
    return bool(vars(env).get("parent_channels") and vars(env).get("_workers")) and not env.is_closed


def _receive(env: ParallelEnv, number: int) -> Any:
    channel, worker = env.parent_channels[number], env._workers[number]
    while not channel.poll(ANSWER_S):
        if not worker.is_alive() and not channel.poll():
            raise EOFError(f"it has ended with exit code {worker.exitcode}")
    return channel.recv()


class _Question:
    """Becomes, in a worker, the name of an attribute that answers it; one that always is there, if it finds no env."""

    def __init__(self, question: bytes) -> None:
        self.question = question

    def __reduce__(self) -> tuple[Any, ...]:
        return _leave, (self.question,)


def _leave(question: bytes) -> str:
    """Leave a question at the env for which TorchRL's loop in a worker is reading a command; return where."""
    frame = sys._getframe(1)
    while frame is not None:
        env = frame.f_locals.get("env")
        if isinstance(env, EnvBase):
            env.__dict__[ATTRIBUTE] = partial(_answer, env, question)
            return ATTRIBUTE
        frame = frame.f_back  # type: ignore[assignment]
    return "training"


def _answer(env: EnvBase, question: bytes) -> tuple[Any, str]:
    """Return the answer, and "" or what was raised."""
    del env.__dict__[ATTRIBUTE]
    try:
        return cloudpickle.loads(question)(env), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
