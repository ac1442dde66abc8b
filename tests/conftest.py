"""What the tests share: their own working directory, the rule for what may be missing, a browser."""

import functools
import gc
import importlib.util
import itertools
import multiprocessing.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import torchrl
from numbered_frames import numbered
from packaging.version import Version
from torchrl.envs import DMControlEnv, ParallelEnv, SerialEnv

from vidrec.errors import SettingError
from vidrec.ffmpeg.encoder import Encoder
from vidrec.ffmpeg.encoding import Encoding, try_out
from vidrec.recording import lifetime

# at home a test that lacks something skips and says what; with VIDREC_REQUIRE_ALL=1, as in CI, it fails
REQUIRE_ALL = bool(os.environ.get("VIDREC_REQUIRE_ALL"))


# a job in the background ignores Ctrl-C, and so do all that it starts
signal.signal(signal.SIGINT, signal.default_int_handler)

# the sockets of multiprocessing need a short name: their folder is made here, not in the folder of a test
multiprocessing.util.get_temp_dir()

# a worker gets all that one of "spawn" gets, but not the seconds to import torch: what it is forked from has that
multiprocessing.set_start_method("forkserver", force=True)
multiprocessing.set_forkserver_preload(
    ["torch.utils.data", "torchrl.collectors", "torchrl.record.loggers", "moviepy.video.io.ffmpeg_reader", "pytest"]
)
SERVICE = {"service_backend": "process", "service_backend_options": {"context": "forkserver"}}
START_METHODS = ["fork", *(pytest.param(method, marks=pytest.mark.long) for method in ("forkserver", "spawn"))]

# what is garbage at a fork is for the parent to free: simulators that have drawn wait for threads that no child has
os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)

# in a thread of its own dm_control waits for ever where the garbage collector finds an env that has drawn
os.environ["DISABLE_RENDER_THREAD_OFFLOADING"] = "1"

FORKED = functools.partial(ParallelEnv, mp_start_method="fork")
BATCHED = pytest.mark.parametrize("batched", [SerialEnv, FORKED], ids=["SerialEnv", "ParallelEnv"])

OLD_ENCODED = ["mp4", "webm", "mkv", "gif", "apng"]
"""What every FFmpeg encodes."""


def is_encoded(video_format):
    try:
        try_out(Encoding.of(video_format))
    except SettingError:
        return False
    return True


# FFmpeg is asked once, and not by each process of a test that imports this file
if "TESTS_ENCODED" not in os.environ:
    os.environ["TESTS_ENCODED"] = " ".join([*OLD_ENCODED, *filter(is_encoded, ["webp"])])
ENCODED = os.environ["TESTS_ENCODED"].split()


def product(*, pairs=True, **values):
    """Parametrize a test with all combinations of values, of which those that add no pair are long.

    Where there are two parameters, or `pairs` is false, those are long that add no value.
    """
    strength = min(2, len(values) - 1) if pairs else 1

    def parts(combination):
        return set(itertools.combinations(enumerate(map(repr, combination)), strength))

    combinations = list(itertools.product(*values.values()))
    missing, short = set().union(*map(parts, combinations)), []
    while missing:
        short.append(max(combinations, key=lambda combination: len(parts(combination) & missing)))
        missing -= parts(short[-1])
    marked = [
        pytest.param(
            *combination,
            marks=[] if combination in short else pytest.mark.long,
            id="-".join(getattr(value, "name", str(value)) for value in combination),
        )
        for combination in combinations
    ]
    return pytest.mark.parametrize(list(values), marked)


def some(values, *short):
    """Return values for a parameter, of which those are long that are not named."""
    return [value if value in short else pytest.param(value, marks=pytest.mark.long) for value in values]


def missing(what: str) -> None:
    (pytest.fail if REQUIRE_ALL else pytest.skip)(what)


def require(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            missing(f"{module} is not installed")


_windows = []


def cheetah(**settings):
    """Make dm_control's, whose windows are freed when the test has ended, and not while another one is drawn."""
    require("dm_control")
    _windows.append("cheetah")
    return DMControlEnv("cheetah", "run", **settings)


def since_torchrl(version: str):
    """Mark a test of what TorchRL has since this version; under an older one it is skipped, whatever is required."""
    older = Version(torchrl.__version__) < Version(version)
    return pytest.mark.skipif(older, reason=f"not in TorchRL {torchrl.__version__}, but in {version}")


compiles_steps = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.13"),
    reason="tested with torch 2.13; that of 2.8 cannot trace the step of TorchRL's own envs",
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    # a test that leaves a clip open would have it published into the folder of another
    for left in lifetime.unfinished():
        left.delete()
    if _windows:
        _windows.clear()
        gc.collect()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Start Chromium, which reaches nothing but this machine."""
    require("selenium")
    binaries = {}
    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)):
        binaries[names[0]] = next(filter(None, map(shutil.which, names)), None)
        if binaries[names[0]] is None:
            missing(f"{names[0]} is not installed")

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binaries["chromium"]
    for flag in [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "no-proxy-server",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever a page asks for, nothing leaves
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(binaries["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def start():
    """Start an encoder of numbered frames; none outlives the test."""
    started = []

    def start(path, *, fps="30", size=(48, 64), args=None, **more):
        encoding = Encoding.of(path.suffix[1:], fps=fps)
        started.append(Encoder(path, size, encoding.fps, args or encoding.ffmpeg_args(size), words.fileno(), **more))
        return started[-1]

    with tempfile.TemporaryFile("ab+") as words:
        yield start
    for encoder in started:
        encoder.kill()


def fill(encoder, numbers):
    for number in numbers:
        encoder.write(numbered(number).numpy())
