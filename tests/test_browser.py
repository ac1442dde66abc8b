"""TensorBoard in Chromium: what was recorded is seen there, moving, on both pages that show frames."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import suppress

import pytest
import torch
from conftest import require, some
from numbered_frames import numbered, read_number
from screens import look, moves, set_size, wait_for
from tensordict.nn import TensorDictModule
from torchrl.envs import GymEnv, TransformedEnv, step_mdp
from worlds import PixelsEnv

from vidrec import TensorboardLogger, VideoRecorder

PAGES = ["images", "timeseries"]
FORMATS = ["apng", "gif", "webp"]

# a frame that is loaded, the slider over its steps or None, its address, and the words on its card
Panel = namedtuple("Panel", ["frame", "slider", "address", "words"])

# all of them, through all shadow roots
FIND_PANELS = """
    const panels = [];
    const words = node =>
        node.nodeType == Node.TEXT_NODE ? node.data + " "
        : ["STYLE", "SCRIPT", "TEMPLATE"].includes(node.tagName) ? ""
        : [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(words).join("");
    const walk = root => {
        for (const element of root.querySelectorAll("*")) {
            if (element.shadowRoot) walk(element.shadowRoot);
            if (!element.matches("img[src*=individualImage], img[src*=imageData]")) continue;
            if (!element.complete || !element.naturalWidth) continue;
            const card = element.closest("image-card") ?? element.getRootNode().host;
            const slider = (card.shadowRoot ?? card).querySelector("input[type=range], paper-slider");
            panels.push([element, slider, element.src, words(card)]);
        }
    };
    walk(document);
    return panels;
"""
ARROW_LEFT = "\ue012"


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start a TensorBoard on a free port; none outlives the tests."""
    require("tensorboard")
    servers = []

    def serve(log_dir):
        folder = tmp_path_factory.mktemp("server")
        log = folder / "tensorboard.txt"
        command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", "0", "--logdir", log_dir]
        with log.open("w") as output:
            # a session of its own, so that its data server ends with it
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"TMPDIR": str(folder)},
                start_new_session=True,
            )
        servers.append(server)
        address = r"http://127\.0\.0\.1:\d+/"
        wait_for(lambda: server.poll() is not None or re.search(address, log.read_text()), 60)
        assert server.poll() is None, log.read_text()
        return re.search(address, log.read_text())[0]

    try:
        yield serve
    finally:
        for server in servers:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, sent)
                with suppress(subprocess.TimeoutExpired):
                    server.wait(10)


def find_panels(browser):
    return [Panel(*found, text.split()) for *found, text in browser.execute_script(FIND_PANELS)]


def find_panel(browser, *words, not_at=None):
    """Return the panel on whose card these words are, or None; words change before the frame and its address do."""
    found = [panel for panel in find_panels(browser) if set(words) <= set(panel.words) and panel.address != not_at]
    assert len(found) <= 1, found
    return found[0] if found else None


def open_panel(browser, address, page, *words):
    """Open a page and return the panel on whose card these words are."""
    set_size(browser, 1400, 1000)
    for _ in range(5):  # the server may not have read the event files when it is asked first
        browser.get("about:blank")
        browser.get(f"{address}#{page}")
        if found := wait_for(lambda: find_panel(browser, *words), 10):
            return found
    pytest.fail(f"{page} has no panel with {words}, but {[panel.words for panel in find_panels(browser)]}")


def play_mspacman(video_format, seed):
    """Record the videos of steps 1000 and 2000 in the middle of a game; a random action is held for five steps."""
    game = GymEnv("ALE/MsPacman-v5", from_pixels=True, frame_skip=4)
    game.set_seed(seed)
    torch.manual_seed(seed)
    actions = (action for _ in itertools.count() for action in [game.action_spec.rand()] * 5)
    policy = TensorDictModule(lambda: next(actions), in_keys=[], out_keys=["action"])
    now = step_mdp(game.rollout(120, policy)[-1])
    logger = TensorboardLogger(video_format, "logs", video_format=video_format)
    env = TransformedEnv(game, VideoRecorder(logger, "mspacman", skip=1, fps=15))
    for step in (1000, 2000):
        now = step_mdp(env.rollout(60, policy, auto_reset=False, tensordict=now)[-1])
        env.transform.dump(step=step)
    env.close()
    logger.experiment.close()


@pytest.mark.long
def test_a_game_of_mspacman_moves_in_tensorboard(browser, serve):
    require("ale_py")
    for video_format, seed in {"apng": 0, "gif": 6, "webp": 0}.items():
        play_mspacman(video_format, seed)
    address = serve("logs")
    for page in PAGES:
        for video_format in FORMATS:
            frame = open_panel(browser, address, page, "mspacman", video_format, "2,000").frame
            assert look(frame).std() > 30  # not one colour
            assert moves(frame)
    if "VIDREC_SAVE_PANEL" in os.environ:
        set_size(browser, 1000, 600)
        browser.execute_script("document.querySelector('[aria-label=\"Close side pane\"]').click()")
        time.sleep(2)
        browser.save_screenshot(os.environ["VIDREC_SAVE_PANEL"])


def assert_plays(frame, numbers, fps):
    """Watch it for two seconds: it shows these numbers, and goes from one to the next at `fps`, round and round."""
    seen = []
    for _ in range(8):
        before = time.monotonic()
        number = read_number(look(frame))
        seen.append((before, time.monotonic(), number))
        time.sleep(0.2)
    shown = [number for *_, number in seen]
    assert set(shown) <= set(numbers)
    assert len(set(shown)) > 4
    (first_before, first_after, first), *others = seen
    for before, after, number in others:
        least, most = fps * (before - first_after) - 2, fps * (after - first_before) + 2
        assert (number - first - least) % len(numbers) <= most - least, shown


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory):
    """The address of a TensorBoard that has videos of all formats."""
    logs = tmp_path_factory.mktemp("logs")
    for video_format in FORMATS:
        logger = TensorboardLogger(video_format, logs, video_format=video_format)
        world = PixelsEnv(frame=lambda number, env_id: numbered(500 + number, (96, 128)))
        env = TransformedEnv(world, VideoRecorder(logger, "numbers", skip=1, fps=10))
        for step in (1000, 2000):
            env.rollout(59)
            env.transform.dump(step=step)
        env.close()
        logger.experiment.close()
    return serve(logs)


@pytest.mark.parametrize("page", some(PAGES, "timeseries"))
@pytest.mark.parametrize("video_format", some(FORMATS, "apng"))
def test_tensorboard_plays_the_numbers_of_each_step_as_fast_as_asked(browser, address, video_format, page):
    second = open_panel(browser, address, page, "numbers", video_format, "2,000")
    assert_plays(second.frame, range(560, 620), fps=10)
    second.slider.send_keys(ARROW_LEFT)
    words = ("numbers", video_format, "1,000")
    first = wait_for(lambda: find_panel(browser, *words, not_at=second.address), 10)
    assert read_number(look(first.frame)) in range(500, 560)


@pytest.mark.parametrize("page", some(PAGES, "timeseries"))
def test_a_video_of_one_frame_stands_still(browser, serve, page):
    logger = TensorboardLogger("run", "logs")
    logger.log_video("still", numbered(700, (96, 128)).permute(2, 0, 1)[None, None])
    logger.experiment.close()
    frame = open_panel(browser, serve("logs"), page, "still", "run", "0").frame
    assert read_number(look(frame)) == 700
    assert not moves(frame, seconds=1)
