"""The origin of a recording: the rank, actor or worker that tells its videos from those of others with the same tag.

The first worker and rank 0 add nothing, so that a single one names its videos as a program without workers does.
"""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import re
import socket
import sys
from typing import Any

import torch.distributed as dist
import torch.utils.data
from torchrl.envs import EnvBase, SerialEnv, TransformedEnv

from vidrec.files import forks

INDEX_KEYS = ("worker_idx", "idx", "env_id", "i")
"""What TorchRL calls the number of a worker, among the arguments of the function that its process runs."""


def origin(env: EnvBase | None, tag: str) -> str | None:
    """Return ``"rank1_worker2"`` or a part of it, for who records `env` here; None for the first, or only one.

    Called while a frame is recorded.
    """
    parts = []
    if rank := _rank():
        parts.append(f"rank{rank}")
    if (actor := _actor()) is not None:
        parts.append(f"actor-{actor}")
    process = _process.number(tag)
    numbers = [*([] if process is None else [process]), *_serial_indices(env)]
    if any(numbers):
        parts.append("worker" + "-".join(map(str, numbers)))
    return "_".join(parts) or None


def _rank() -> int:
    """Return the rank of a distributed program, of ``torch.distributed`` or `torchrun`."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdecimal() and os.environ.get("WORLD_SIZE", "1") != "1" else 0


def _actor() -> str | None:
    """Return the name of the Ray actor that this process is, or the beginning of its id."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    return re.sub(r"[^\w.-]", "-", context.get_actor_name() or "") or str(context.get_actor_id())[:8]


def _serial_indices(env: EnvBase | None) -> list[int]:
    """Return the index of an env in the `SerialEnv` that runs it, and before it that one's in another, and so on."""
    indices: list[int] = []
    frame = sys._getframe(1)
    while frame is not None and env is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, SerialEnv):
            # not by its attributes, which are those of its envs as well
            members = [base_env(member) for member in caller.__dict__.get("_envs", ())]
            if env in members:
                indices.insert(0, members.index(env))
                env = caller
        frame = frame.f_back  # type: ignore[assignment]
    return indices


def base_env(env: EnvBase) -> EnvBase:
    """Return the env below all transforms."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return env


class _Process:
    """The numbers of this process, by tag, among those of one program that record at the same time.

    That which TorchRL or a data loader gave it, else 1; or the next one that is free.
    """

    def __init__(self) -> None:
        self._claims: dict[str, tuple[int, socket.socket]] = {}
        forks.detach_in_child(self)

    def number(self, tag: str) -> int | None:
        """Return the number, which stays the same; None in the first process."""
        if multiprocessing.parent_process() is None:
            return None
        if tag not in self._claims:
            with forks.lock:  # a child that is forked meanwhile would hold it
                self._claims[tag] = _claim(tag)
        return self._claims[tag][0]

    def detach(self) -> None:
        """Let go of the parent's numbers, in a forked child."""
        for _, claim in self._claims.values():
            claim.close()
        self._claims.clear()


_process = _Process()


def _claim(tag: str) -> tuple[int, socket.socket]:
    """Return a number, and what keeps others from it: the name of a socket, which ends with the process."""
    program = bytes(multiprocessing.current_process().authkey)  # all processes of one program have the same
    scope = hashlib.sha256(program + tag.encode()).hexdigest()
    claim = socket.socket(socket.AF_UNIX)
    for number in itertools.count(_given_number()):
        if sys.platform != "linux":  # no names without files
            break
        with contextlib.suppress(OSError):
            claim.bind(f"\0vidrec-{scope}-{number}")
            break
    return number, claim


def _given_number() -> int:
    process: Any = multiprocessing.current_process()
    if str(getattr(getattr(process, "_target", None), "__module__", "")).startswith("torchrl."):
        numbers = [process._kwargs[key] for key in INDEX_KEYS if isinstance(process._kwargs.get(key), int)]
        if numbers:
            return int(numbers[0])
    info = torch.utils.data.get_worker_info()
    return 1 if info is None else int(info.id)
