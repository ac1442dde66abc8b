"""TorchRL's process and Ray services of vidrec's loggers, with clients that may be copied into other processes.

The copies of one client of TorchRL's share the numbers of their requests and the queue of their replies: a process gets
the reply to another one's request, or none. Here a copy, pickled or forked, becomes a client of its own with its first
call. No call waits for ever.
"""

import math
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.managers import SyncManager
from typing import Any

from torchrl._comm.mailbox import MailboxClient, MailboxTransportError
from torchrl.record.loggers.process import ProcessLogger, _ProcessLoggerClient
from torchrl.record.loggers.ray import RayLogger, _RayLoggerClient

from vidrec.errors import ServiceError, SettingError, need
from vidrec.loggers import service as timeouts
from vidrec.loggers.uploads import InPlace


@contextmanager
def _bounded(method: str, timeout_s: float | None, *ended: type[BaseException]) -> Iterator[float | None]:
    """Give the time-out of a call, and raise `ServiceError` where the logger has ended or does not answer."""
    seconds = timeouts.TIMEOUT_S if timeout_s is None else timeout_s
    try:
        yield None if seconds == math.inf else seconds
    except (queue.Empty, TimeoutError):
        raise ServiceError(
            f"the logger's process has not answered {method} within {seconds:g} s (vidrec.set_service_timeout)"
        ) from None
    except (MailboxTransportError, EOFError, ConnectionError, *ended) as error:
        raise ServiceError(f"the logger's process has ended, and {method} was not done: {error}") from error


class Answers:
    """Waits for the answers to calls of one client, in a thread of this process that the first of them starts."""

    def __init__(self) -> None:
        self._pid = 0

    def wait(self, get: Callable[[], Any]) -> "Future[Any]":
        """Return what `get` will return; the first is called first."""
        if self._pid != os.getpid():  # a forked child has no threads
            self._thread, self._pid = ThreadPoolExecutor(1, "vidrec answers"), os.getpid()
        try:
            return self._thread.submit(get)
        except RuntimeError:  # the interpreter ends
            return InPlace().submit(get)


class ProcessClient(_ProcessLoggerClient):
    """The client of a logger in another process of this machine.

    Args:
        mailbox_client: the connection of this process; None makes one with the first call.
        queues: those of the service: of requests, of replies by client, and the event that says whether it lives.
        about: its exp_name and log_dir.
    """

    shares_files = True

    def __init__(self, mailbox_client: MailboxClient | None, queues: tuple[Any, Any, Any], **about: Any) -> None:
        super().__init__(mailbox_client, **about)
        self._queues = queues
        self._answers = Answers()
        self._pid = None if mailbox_client is None else os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ProcessClient, None, self._queues, exp_name=self._exp_name, log_dir=self._log_dir), ()

    def _submit(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, wait: bool, timeout: float | None = None
    ) -> Any:
        with _bounded(method, timeout) as timeout_s:
            self._connect()
            return super()._submit(method, args, kwargs, wait=wait, timeout=timeout_s)

    def begin(self, method: str, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call a method of the logger, and return its answer to come."""
        with _bounded(method, None):
            self._connect()
            request = {"method": method, "args": args, "kwargs": kwargs, "wait": True}
            reply = self._mailbox_client.submit(request)

        def get() -> Any:
            with _bounded(method, None) as timeout_s:
                return reply.result(timeout_s)

        return self._answers.wait(get)

    def _connect(self) -> None:
        """Be a client of this process, with a queue of replies of its own, as the owner's `Mailbox.client` makes it."""
        if self._pid == os.getpid():
            return
        requests, replies, alive = self._queues
        manager = SyncManager(requests._token.address, requests._authkey)
        manager.connect()
        own, name = manager.Queue(), uuid.uuid4().hex
        replies[name] = own
        self._mailbox_client, self._pid = MailboxClient(requests, own, name, peer_alive=alive), os.getpid()


class ProcessService(ProcessClient, ProcessLogger):
    """The owner of a logger in another process. A copy in another process is a client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ProcessLogger.__init__(self, *args, **kwargs)
        self._answers = Answers()
        self._pid = self._owner_pid = os.getpid()

    def client(self) -> ProcessClient:
        """Return a client, which may be copied into other processes."""
        if self._owner_pid != os.getpid():  # in a forked child
            return ProcessClient(None, self._queues, **self._metadata)
        client: ProcessClient = super().client()
        return client

    def _make_client(self) -> ProcessClient:
        self._queues = (self._request_queue, self._response_queues, self._service_alive)
        return ProcessClient(self._mailbox.client(), self._queues, **self._metadata)


class RayClient(_RayLoggerClient):
    """The client of a logger in an actor of Ray, which may be on another machine."""

    shares_files = False

    def __init__(self, actor: Any, client_id: int | None, **about: Any) -> None:
        super().__init__(actor, client_id, **about)
        self._sequence: int
        self._sequence_lock: threading.Lock
        self._answers = Answers()
        self._pid = None if client_id is None else os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(RayClient, self._actor, None, exp_name=self._exp_name, log_dir=self._log_dir), ()

    def _submit(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, wait: bool, timeout: float | None = None
    ) -> Any:
        with self._bounded(method, timeout) as timeout_s:
            self._connect(timeout_s)
            return super()._submit(method, args, kwargs, wait=wait, timeout=timeout_s)

    def begin(self, method: str, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call a method of the logger, and return its answer to come."""
        with self._bounded(method, None) as timeout_s:
            self._connect(timeout_s)
            with self._sequence_lock:
                reply = self._actor._execute.remote(self._client_id, self._sequence, method, args, kwargs, True)
                self._sequence += 1

        def get() -> Any:
            with self._bounded(method, None) as timeout_s:
                return self.ray.get(reply, timeout=timeout_s)

        return self._answers.wait(get)

    def _connect(self, timeout_s: float | None) -> None:
        """Be a client of this process: with numbers of requests of its own."""
        if self._pid != os.getpid():
            self._client_id = self.ray.get(self._actor._new_client.remote(), timeout=timeout_s)
            self._sequence, self._sequence_lock, self._pid = 0, threading.Lock(), os.getpid()

    def _bounded(self, method: str, timeout_s: float | None) -> AbstractContextManager[float | None]:
        return _bounded(method, timeout_s, self.ray.exceptions.RayActorError)


class RayService(RayClient, RayLogger):
    """The owner of a logger in an actor of Ray. A copy in another process is a client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        RayLogger.__init__(self, *args, **kwargs)
        self._answers = Answers()
        self._pid = os.getpid()

    def flush(self, timeout: float | None = None) -> None:
        """Wait for what was called before, see `RayLogger.flush`."""
        with self._bounded("flush", timeout) as timeout_s:
            super().flush(timeout_s)

    def client(self) -> RayClient:
        """Return a client, which may be copied into other processes."""
        if not self.is_alive:
            raise RuntimeError("RayLogger is not running.")
        return RayClient(self._actor, None, exp_name=self.exp_name, log_dir=self.log_dir)


def service(
    logger_class: type, backend: str, *args: Any, service_backend_options: dict[str, Any] | None = None, **kwargs: Any
) -> ProcessService | RayService:
    """Return a logger of this class in another process, as TorchRL's loggers do with `service_backend`.

    Raises:
        SettingError: another backend, or an option that Ray does not take.
    """
    options = dict(service_backend_options or {})
    if backend == "process":
        if "context" in options:
            options["mp_context"] = options.pop("context")
        return ProcessService(logger_class, *args, **options, **kwargs)
    if backend == "ray":
        need("ray", f"a {logger_class.__name__} in an actor")
        if unknown := options.keys() - {"actor_options", "ray_init_config"}:
            expected = "expected actor_options, ray_init_config"
            raise SettingError(f"unknown service_backend_options {sorted(unknown)}; {expected}")
        actor_options = options.pop("actor_options", kwargs.pop("ray_actor_options", None))
        return RayService(logger_class, *args, ray_actor_options=actor_options, **options, **kwargs)
    raise SettingError(f"unknown service_backend={backend!r}; expected 'direct', 'process' or 'ray'")
