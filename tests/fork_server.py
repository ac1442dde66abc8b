"""A process that has modules imported and forks itself for each script: to import torch anew takes seconds of each.

It is told what to run by messages over a Unix socket, whose descriptor is its first argument; the others are the
modules. With each message come four descriptors more: the child's stdin, stdout and stderr, and where to write the
child's id and, once it has ended, its wait status.
"""

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import types
import weakref

MAX_BYTES = 100_000

own = set(sys.modules)


@atexit.register  # before all others, so that it comes after all others
def spare():
    """Leave what was imported here as it is: to take torch to pieces takes a child longer than most scripts."""
    spared = [sys.modules.pop(name, None) for name in imported]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(spared))
    libc = ctypes.CDLL(None)
    libc.on_exit(libc._exit, None)  # and so in C, once Python has ended


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


def forget_moviepy():
    """Have it look for FFmpeg anew, as it does when it is imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "moviepy"]:
        del sys.modules[name]


def become(streams, *, path, args, cwd, env, new_session):
    """Make this process look like one that was started by itself, with the file of a script or without one."""
    if new_session:
        os.setsid()
    for target, (stream, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(stream, target)
        os.close(stream)
        was, buffering = getattr(sys, name), 1 if name == "stderr" else -1
        here = open(target, was.mode, buffering, was.encoding, was.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, here)
    if cwd:
        os.chdir(cwd)
    if env.get("FFMPEG_BINARY") != os.environ.get("FFMPEG_BINARY"):
        forget_moviepy()
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # $TMPDIR may be another one
    sys.argv[:] = [path or "-c", *args]
    sys.path[0] = os.path.dirname(path)
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    if path:
        main.__file__ = path
    return vars(main)


class Last:
    """Ends a process once Python has taken all modules to pieces: to free each string takes longer than most scripts.

    It is the last entry of `sys`, which goes after all modules but `builtins`.
    """

    status = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is None:
            self.status = 0
        elif kind is SystemExit and (error.code is None or isinstance(error.code, int)):
            self.status = (error.code or 0) & 255
        # all else ends as Python ends it
        self.streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]

    def __del__(self, end=os._exit):
        if self.status is not None:
            for stream in self.streams:  # what objects have said that were deleted meanwhile
                if not stream.closed:
                    stream.flush()
            end(self.status)


for module in sys.argv[2:]:
    importlib.import_module(module)
imported = set(sys.modules) - own
# to know the files of all modules takes long, and torch asks for them when it is told of an operator
inspect.getmodule(inspect.currentframe(), "no file of theirs")
for finalizer in list(weakref.finalize._registry):
    finalizer.atexit = False
gc.freeze()  # a child that looks at each object of torch's as it ends copies them all
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
if request := requests(socket.socket(fileno=int(sys.argv[1]))):
    watched(request[1][:3], request[1][3])
    script = request[0].pop("script")
    code = compile(script, request[0]["path"] or "<string>", "exec")
    # nothing comes after this, and nothing else has what the script has, so that it ends as it does by itself
    with Last() as sys.the_last_to_go:
        exec(code, become(request[1][:3], **request[0]))
