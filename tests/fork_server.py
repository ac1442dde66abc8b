"""A process that has torch imported and forks itself for each script: to import it anew takes seconds of each child.

It is told what to run by messages over a Unix socket, whose descriptor is its only argument. With each come four more:
the child's stdin, stdout and stderr, and where to write the child's id and, once it has ended, its wait status.
"""

import gc
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import types

import torch.utils.data  # noqa: F401
import torchrl.collectors
import torchrl.data
import torchrl.envs
import torchrl.record.loggers  # noqa: F401

MAX_BYTES = 100_000


def requests(connection):
    """Return the next request in a fork of this process, for each of them; this process itself returns None."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_BYTES, 4)
        if not message:
            return None
        if not os.fork():
            connection.close()
            return json.loads(message), descriptors
        for descriptor in descriptors:
            os.close(descriptor)


def watched(streams, status):
    """Fork once more and return in the child; the parent tells the child's id and its end, and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os.close(status)
        return
    for stream in streams:
        os.close(stream)
    os.write(status, struct.pack("i", child))
    os.write(status, struct.pack("i", os.waitpid(child, 0)[1]))
    os._exit(0)


def become(streams, *, args, cwd, env, new_session):
    """Make this process look like one that was started by itself."""
    if new_session:
        os.setsid()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    if cwd:
        os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # $TMPDIR may be another one
    sys.argv[:] = ["-c", *args]
    sys.path[0] = ""
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    return vars(main)


gc.freeze()  # a child that looks at each object of torch's as it ends copies them all
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
if request := requests(socket.socket(fileno=int(sys.argv[1]))):
    watched(request[1][:3], request[1][3])
    script = request[0].pop("script")
    # nothing comes after this, so that the script ends as it does by itself
    exec(compile(script, "<string>", "exec"), become(request[1][:3], **request[0]))
