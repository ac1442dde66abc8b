"""`vidrec gallery` in Chromium: a page that needs no network, of folders of every kind."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import require, some
from numbered_frames import numbered, read_number
from PIL import Image
from processes import run_python, within, without
from screens import look, set_size, wait_for
from tensordict.nn import TensorDictModule
from test_cli import AS_A_MODULE, call, edit_index
from test_repair import RUN, tree
from torchrl.envs import Compose, GymEnv, StepCounter, TransformedEnv

from vidrec import CSVLogger, SettingError, TensorboardLogger, VideoRecorder
from vidrec.files.index import VideoIndex
from vidrec.tools import listing
from vidrec.tools.web import page

ROOT = Path(__file__).parent.parent
SCREENS = os.environ.get("VIDREC_SAVE_SCREENS")

TITLES = "return [...document.querySelectorAll('#cards .card h2')].map(title => title.textContent)"
READY = "return [...document.querySelectorAll('#cards video')].filter(video => video.readyState >= 2).length"

CARD_READY = "return arguments[0].querySelector('video')?.readyState >= 2"


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def record(tag="game", frames=20, first=0, step=None, run=RUN, video_format="mp4", fps=30, size=(48, 64)):
    """Record a video of frames that show the numbers from `first` on."""
    recorder = VideoRecorder(CSVLogger(run.name, run.parent, video_format), tag, skip=1, fps=fps)
    for number in range(first, first + frames):
        recorder._apply_transform(numbered(number, size))
    return recorder.dump(step=step).path


def again(video, run=RUN, **row):
    """Add another row, with a file of its own that is the same."""
    index = VideoIndex(run)
    [first, *_] = [row for row in index.rows() if (run / row["file"]).absolute() == video]
    file = row.setdefault("file", f"videos/{row.get('tag', 'game')}_{row.get('step', len(index.rows()))}.mp4")
    (run / file).parent.mkdir(parents=True, exist_ok=True)
    os.link(video, run / file)
    index.add(**{**first, **row})


def many(video, count):
    """Have so many videos, which are the same file."""
    [row] = VideoIndex(RUN).rows()
    with (RUN / "videos.csv").open("a", newline="") as index:
        writer = csv.DictWriter(index, row, lineterminator="\n")
        for step in range(1, count):
            os.link(video, RUN / f"videos/game_{step}.mp4")
            writer.writerow({**row, "step": step, "file": f"videos/game_{step}.mp4", "return": step % 100})


def gallery(*args, folder=RUN, code=0):
    """Make the page; return its address."""
    done = call("gallery", folder, *args)
    assert done.returncode == code, done.stderr
    return (Path(folder).absolute() / "index.html").as_uri()


def opened(browser, address, size=(1200, 900)):
    """Open a page and wait for its first card; nothing may be wrong with it, or be asked of a network."""
    set_size(browser, *size)
    browser.get_log("browser")
    browser.get(address)
    assert wait_for(lambda: browser.execute_script(TITLES), 10)


def assert_no_error(browser):
    assert browser.get_log("browser") == []


def choose(browser, name, value):
    """Set a field of the filters as a user does."""
    browser.execute_script(
        "const field = document.querySelector(`#filters [name=${arguments[0]}]`); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def shown(browser):
    """Return the names and steps of the cards, in order."""
    return [title.replace(", step ", " ") for title in browser.execute_script(TITLES)]


def play(browser, *numbers):
    """Choose cards by their place, and play them."""
    boxes = browser.find_elements("css selector", "#cards .card input[type=checkbox]")
    for number in numbers:
        boxes[number].click()
    browser.find_element("id", "play").click()
    return screens(browser)


def screens(browser):
    """Return the videos of the player, which have come that far that they can be seen."""
    ready = "return [...document.querySelectorAll('#screens video')].every(v => v.readyState >= 2 && !v.seeking)"
    assert wait_for(lambda: browser.execute_script(ready), 10)
    return browser.find_elements("css selector", "#screens video")


def press(browser, what):
    browser.find_element("css selector", f"#stage [data-do={what}]").click()


def numbers(browser, videos):
    """Return the numbers that are seen at the same time."""
    image = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    found = []
    for video in videos:
        # of the box, what the frame fills, which is 4 by 3
        x, y, width, height = browser.execute_script(
            "const {x, y, width, height} = arguments[0].getBoundingClientRect(); return [x, y, width, height]", video
        )
        wide = min(width, height * 4 / 3)
        left, top = x + (width - wide) / 2, y + (height - wide * 3 / 4) / 2
        found.append(read_number(image[int(top) : int(top + wide * 3 / 4), int(left) : int(left + wide)]))
    return found


def time_first_card(browser, address):
    """Open a page, and print how long it takes until its first card is there."""
    browser.get("about:blank")
    begun = time.monotonic()
    browser.get(address)
    assert wait_for(lambda: browser.execute_script(READY), 10)
    print(f"the first card after {time.monotonic() - begun:.2f} s")


def assert_seen(browser, expected):
    """Assert that these numbers are seen, soon: a frame is painted a moment after it is there."""
    wait_for(lambda: numbers(browser, screens(browser)) == expected, 5)
    assert numbers(browser, screens(browser)) == expected


def seek(browser, frame):
    browser.execute_script(
        "const slider = document.querySelector('#stage [name=frame]'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))",
        frame,
    )


def balance(noise):
    """Return a policy that holds the pole of CartPole up, but for so many actions of 1."""

    def act(observation):
        wrong = torch.rand(()) < noise
        right = (observation[2] + 0.3 * observation[3] > 0) ^ wrong
        return torch.stack([~right, right]).long()

    return TensorDictModule(act, in_keys=["observation"], out_keys=["action"])


def train(evaluations=5):
    """Record the evaluations of two trainings, which get better."""
    torch.manual_seed(0)
    for run, pace in (("slow", 0.1), ("fast", 0.2)):
        logger = CSVLogger(run, "runs")
        env = GymEnv("CartPole-v1", from_pixels=True, pixels_only=False)
        env.set_seed(0)
        recorder = VideoRecorder(logger, "eval", skip=1, fps=50)
        env = TransformedEnv(env, Compose(StepCounter(100), recorder))
        for step in range(0, 1000 * evaluations, 1000):
            noise = max(0.0, 0.6 - pace * step / 1000)
            found = env.rollout(100, balance(noise))
            recorder.dump(step=step)
            for more in range(0, 1000, 100):
                logger.log_scalar("train/noise", max(0.0, 0.6 - pace * (step + more) / 1000), step + more)
            logger.log_scalar("eval/return", len(found), step)
        env.close()


def save_screen(browser, name):
    """Keep what is seen for the documentation, if that is asked for."""
    if SCREENS:
        seen = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        seen.quantize(128).save(Path(SCREENS, f"{name}.png"), optimize=True)


# cards, filters, sorting


@pytest.mark.long
def test_a_training_is_looked_at(browser):
    train()
    opened(browser, gallery(folder="runs"), size=(1100, 760))
    assert wait_for(lambda: browser.execute_script(READY) >= 4, 10)
    assert wait_for(lambda: len(browser.find_elements("class name", "point")) == 20, 10)
    save_screen(browser, "gallery")
    choose(browser, "sort", "return")
    worst = browser.find_element("css selector", "#cards .card p").text
    returns = [float(row["return"]) for run in ("slow", "fast") for row in VideoIndex(Path("runs", run)).rows()]
    assert worst.startswith(f"return {min(returns):g} · ")
    videos = play(browser, 0, 9)
    press(browser, "toggle")
    seek(browser, 5)
    assert all(look(video).std() > 20 for video in screens(browser))
    assert len(videos) == 2
    save_screen(browser, "player")


def test_cards_are_filtered_by_tag_env_return_and_how_it_ended_and_sorted(browser):
    video = record(step=0)
    for step, value, ended, env_id in [(1, 5, "terminated", 0), (2, -1.5, "truncated", 1), (3, "nan", "terminated", 1)]:
        again(video, step=step, env_id=env_id, ended=ended, length=9, **{"return": value})
    again(video, step=4, tag="other", **{"return": "inf"})
    opened(browser, gallery())
    assert shown(browser) == ["game 0", "game 1, env 0", "game 2, env 1", "game 3, env 1", "other 4"]
    assert wait_for(lambda: browser.execute_script(READY) == 5, 10)
    for name, value, steps in [
        ("tag", "=other", "4"),
        ("env", "=1", "23"),
        ("env", "=-", "04"),
        ("ended", "=truncated", "2"),
        ("least", "5", "14"),
        ("most", "4", "2"),
        ("words", "STEP 3", "3"),
    ]:
        choose(browser, name, value)
        assert [title.split()[1].strip(",") for title in shown(browser)] == list(steps), name
        assert browser.find_element("id", "count").text == f"{len(steps)} of 5 videos"
        browser.find_element("css selector", "[type=reset]").click()
        assert wait_for(lambda: len(shown(browser)) == 5, 5)
    for sort, steps in {"return": "32140", "-return": "41230", "step": "01234", "-step": "43210"}.items():
        choose(browser, "sort", sort)
        assert [title.split()[1].strip(",") for title in shown(browser)] == list(steps), sort
    assert_no_error(browser)


def test_the_page_is_in_the_order_that_was_asked_for_with_those_videos_alone(browser):
    video = record(step=0)
    for step in (1, 2, 3):
        again(video, step=step, **{"return": step})
    opened(browser, gallery("--where", "return>=1", "--sort", "-return", "-n", 2))
    assert shown(browser) == ["game 3", "game 2"]


def test_two_thousand_videos_begin_with_sixty_cards_and_have_more_on_the_way_down(browser):
    video = record(step=0)
    many(video, 2000)
    (RUN / "scalars/loss.csv").write_text("".join(f"{step},{1 / (step + 1)}\n" for step in range(2000)))
    address = gallery()
    time_first_card(browser, address)
    assert len(shown(browser)) == 60
    assert len(browser.find_elements("css selector", "video")) < 60
    choose(browser, "sort", "-step")
    assert shown(browser)[0] == "game 1999"
    for _ in range(3):
        before = len(shown(browser))
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        assert wait_for(lambda count=before: len(shown(browser)) > count, 10)
    assert wait_for(lambda: browser.execute_script(READY), 10)
    # a browser tells which cards have left the view when it has the time
    assert wait_for(lambda: len(browser.find_elements("css selector", "video")) < 60, 10)
    assert_no_error(browser)


# playing


def test_two_videos_play_in_sync_and_slower(browser):
    record(step=0, frames=120)
    record(step=1, frames=120, first=1000)
    opened(browser, gallery())
    videos = play(browser, 0, 1)
    assert len(videos) == 2
    browser.find_element("css selector", "[name=rate] option[value='0.25']").click()
    begun, seen = time.monotonic(), []
    while time.monotonic() - begun < 3:
        seen.append((time.monotonic() - begun, numbers(browser, videos)))
    for _, (one, two) in seen:
        assert abs(one - (two - 1000)) <= 1, seen
    (first_s, (first, _)), (last_s, (last, _)) = seen[0], seen[-1]
    assert 0.5 < (last - first) / (30 * 0.25 * (last_s - first_s)) < 1.5

    # one that was held up catches up
    browser.execute_script("arguments[0].currentTime -= 0.24", videos[1])

    def apart():
        one, two = numbers(browser, videos)
        return abs(one - (two - 1000))

    assert wait_for(lambda: apart() > 1, 2)
    assert wait_for(lambda: apart() <= 1, 5)
    press(browser, "toggle")
    videos = screens(browser)
    still = numbers(browser, videos)
    time.sleep(0.3)
    assert numbers(browser, videos) == still


@pytest.mark.parametrize("video_format", some(["mp4", "webm"], "mp4"))
def test_seeking_and_stepping_land_on_the_frame_that_was_asked_for(browser, video_format):
    record(step=0, frames=70, video_format=video_format, fps=25)
    record(step=1, frames=40, first=1000, video_format=video_format, fps=25)
    opened(browser, gallery())
    play(browser, 0, 1)
    for frame in (0, 33, 1, 69, 52):
        seek(browser, frame)
        # what is over stays at its last frame
        assert_seen(browser, [frame, 1000 + min(frame, 39)])
    seek(browser, 10)
    for what, frame in [("on", 11), ("on", 12), ("back", 11), ("back", 10), ("back", 9)]:
        press(browser, what)
        assert_seen(browser, [frame, 1000 + frame])
    assert browser.find_element("css selector", "#stage output").text == "frame 9 of 70, 0.38 s"
    assert_no_error(browser)


def test_a_page_is_used_with_the_keyboard_alone_and_each_control_has_a_name(browser):
    from selenium.webdriver.common.keys import Keys

    record(step=0)
    CSVLogger("run", ".").log_scalar("loss", 1.0, 0)
    opened(browser, gallery())

    def press_tab_until(selector):
        for _ in range(60):
            if browser.switch_to.active_element in browser.find_elements("css selector", selector):
                return browser.switch_to.active_element
            browser.switch_to.active_element.send_keys(Keys.TAB)
        return pytest.fail(f"{selector} is not reached")

    press_tab_until(".card input[type=checkbox]").send_keys(Keys.SPACE)
    browser.execute_script("document.activeElement.blur()")
    press_tab_until("#play").send_keys(Keys.ENTER)
    screens(browser)
    stage = browser.switch_to.active_element
    assert stage.get_attribute("id") == "stage"
    stage.send_keys(Keys.SPACE)
    seek(browser, 7)
    for key, frame in [(Keys.ARROW_RIGHT, 8), (Keys.ARROW_LEFT, 7)]:
        stage.send_keys(key)
        assert_seen(browser, [frame])
    names = {
        element.get_attribute("outerHTML"): element.accessible_name
        for element in browser.find_elements("css selector", "button, input, select, video, summary, a")
        if element.is_displayed()
    }
    assert len(names) > 15
    assert [element for element, name in names.items() if not name] == []
    stage.send_keys(Keys.ESCAPE)
    assert not stage.is_displayed()


def test_a_page_is_dark_where_that_is_preferred(browser):
    record(step=0)
    opened(browser, gallery())
    grounds = {}
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        grounds[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert grounds["dark"] < 60
    assert grounds["light"] > 200


# curves


def test_a_click_on_a_point_of_a_curve_plays_the_video_of_that_step(browser):
    require("tensorboard")
    logger = CSVLogger("run", ".")
    for step in range(0, 3000, 10):
        logger.log_scalar("eval/return", step / 10, step)
    for step in (0, 1000, 2000):
        record(step=step, first=step // 2)
    board = TensorboardLogger("board", ".")
    board.log_scalar("loss", 0.5, 0)
    board.log_scalar("loss", 0.25, 100)
    board.experiment.close()
    record(step=100, first=7, run=Path("board"))
    opened(browser, gallery(folder="."))
    wait_for(lambda: len(browser.find_elements("class name", "u-over")) == 2, 10)
    names = [caption.text for caption in browser.find_elements("css selector", "#curves figcaption")]
    assert sorted(names) == ["eval/return", "loss"]
    points = {point.accessible_name: point for point in browser.find_elements("class name", "point")}
    assert set(points) == {f"Play game, step {step}" for step in (0, 100, 1000, 2000)}
    [left, right] = [points[f"Play game, step {step}"].rect for step in (0, 2000)]
    assert left["x"] < right["x"]
    assert left["y"] > right["y"]  # on the curve, which rises
    points["Play game, step 1000"].click()
    press(browser, "toggle")
    seek(browser, 3)
    assert_seen(browser, [503])
    choose(browser, "words", "step 2000")
    assert [point.accessible_name for point in browser.find_elements("class name", "point")] == ["Play game, step 2000"]
    assert_no_error(browser)


def test_a_curve_has_a_thousand_points_at_the_most_and_leaves_out_what_is_no_number():
    record(step=0)
    scalars = RUN / "scalars/deep/loss.csv"
    scalars.parent.mkdir(parents=True)
    scalars.write_text("".join(f"{step},{step / 2}\n" for step in range(5000)) + "5000,nan\nno,number\n\n5001")
    (RUN / "scalars/foreign.csv").write_bytes(b"\xff\x00,<script>\n" * 5)
    found = listing.read(RUN)
    [curve] = page.data(found, found.videos, lambda video: "")["curves"]
    assert (curve["name"], curve["run"]) == ("deep/loss", ".")
    assert len(curve["steps"]) == 1000
    assert (curve["steps"][0], curve["steps"][-1], curve["values"][-1]) == (0, 5000, None)
    assert all(value == step / 2 for step, value in zip(curve["steps"][:-1], curve["values"], strict=False))


# names


HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "<!--<script>",
    "<img src=x onerror=window.hacked=1>",
    "a 'single' and a \"double\" quote",
    "per%cent %41 #hash ?query=1&b=2;c",
    "javascript:alert(1)",
    "{{ 7 * 7 }} {% raw %}",
    "ü 雪 \u2028 \U0001f600",
    "back\\slash",
    "a\nnew line",
    "..",
    " ",
]


@pytest.mark.parametrize("embed", some([[], ["--embed"]], []), ids=["files", "embedded"])
def test_names_of_every_kind_are_text_and_lead_to_their_files(browser, embed):
    video = record(step=0, size=(24, 32))
    for name in HOSTILE:
        file = name.replace("/", "|")
        again(video, tag=name, step=1, file=f"videos/{file}_1.mp4", ended=name)
        (RUN / "scalars" / f"{file}.csv").write_text("0,1\n1,2\n")
    os.link(video, os.fsencode(RUN / "videos") + b"/\xff\xfe.mp4")
    opened(browser, gallery(*embed))
    titles = [title for title in shown(browser) if title.endswith(" 1")]
    assert titles == [f"{name} 1" for name in HOSTILE]
    for element in browser.find_elements("class name", "card"):
        browser.execute_script("arguments[0].scrollIntoView()", element)
        assert wait_for(lambda card=element: browser.execute_script(CARD_READY, card), 10), element.text
    assert browser.execute_script("return [window.hacked, document.title]") == [None, "run"]
    assert browser.execute_script("return document.querySelectorAll('script').length") == 2 + bool(embed) * 15
    options = browser.find_elements("css selector", "[name=ended] option")
    assert {option.get_attribute("value") for option in options} == {"", "=-", *(f"={name}" for name in HOSTILE)}
    captions = browser.execute_script("return [...document.querySelectorAll('figcaption')].map(c => c.textContent)")
    assert set(captions) == {name.replace("/", "|") for name in HOSTILE}
    assert_no_error(browser)


def test_a_folder_of_any_name_gives_a_page(browser):
    for name in ("</title><script>window.hacked = 1</script>", "a#b%20c?d"):
        run = Path(name.replace("/", "|"))
        record(step=0, run=run)
        opened(browser, gallery(folder=run))
        assert browser.execute_script("return [window.hacked, document.title]") == [None, run.name]
        assert wait_for(lambda: browser.execute_script(READY), 10)


# the file


def test_the_page_asks_nothing_of_a_network_and_brings_the_licence_of_what_it_has(browser):
    record(step=0)
    CSVLogger("run", ".").log_scalar("loss", 1.0, 0)
    opened(browser, gallery())
    assert wait_for(lambda: browser.execute_script(READY), 10)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(re.match("file:|data:", name) for name in loaded), loaded
    html = (RUN / "index.html").read_text()
    assert "default-src 'none'" in html
    assert "Copyright (c) 2022 Leon Sorokin" in html
    addresses = {address for address in re.findall(r"https?://[^\s\"']+", html) if "w3.org" not in address}
    assert addresses == {"https://github.com/leeoniya/uPlot"}  # in its comment
    assert str(Path.cwd()) not in html


def test_a_page_elsewhere_finds_the_videos(browser):
    record(step=0)
    Path("pages/deep").mkdir(parents=True)
    assert call("gallery", RUN, "-o", "pages/deep/my page.html").stdout.startswith("pages/deep/my page.html: 1 video, ")
    opened(browser, Path("pages/deep/my page.html").absolute().as_uri())
    assert wait_for(lambda: browser.execute_script(READY), 10)


def test_a_page_that_is_there_is_replaced_on_request_alone():
    record(step=0)
    target = RUN / "index.html"
    target.write_text("mine")
    before = tree(RUN)
    done = call("gallery", RUN)
    assert done.returncode == 2
    assert "--force replaces it" in " ".join(done.stderr.replace("│", " ").split())
    assert tree(RUN) == before
    gallery("--force")
    assert target.read_text().startswith("<!doctype html>")
    assert set(tree(RUN)) == set(before)


def test_a_page_appears_whole_or_not_at_all(monkeypatch):
    target = Path("index.html")
    with pytest.raises(UnicodeEncodeError):
        page.save("a" * 10**5 + "\udcff", target, overwrite=True)
    target.write_text("somebody was faster")
    with pytest.raises(SettingError, match="--force"):
        page.save("page", target, overwrite=False)
    assert [path.name for path in Path(".").iterdir()] == ["index.html"]
    assert target.read_text() == "somebody was faster"


@pytest.mark.parametrize("target", ["no/such/folder.html", "run"])
def test_what_cannot_be_a_page_is_refused(target):
    record(step=0)
    done = call("gallery", RUN, "-o", target)
    assert done.returncode == 2
    assert "can be no page" in done.stderr


def test_an_empty_a_foreign_and_a_damaged_folder_give_an_ordinary_page(browser):
    Path("empty").mkdir()
    gallery(folder="empty")
    browser.get(Path("empty/index.html").absolute().as_uri())
    assert wait_for(lambda: browser.find_element("id", "count").text == "0 videos", 5)
    Path("foreign").mkdir()
    for name in ("a.mkv", "b.pt", "c.memmap", "d.mp4", "e.gif", "f.txt"):
        Path("foreign", name).write_bytes(b"foreign")
    Path("foreign/videos.csv").write_bytes(b"\x00\xff<b>\n1,2,3\n")
    gallery(folder="foreign", code=1)
    opened(browser, Path("foreign/index.html").absolute().as_uri())
    assert shown(browser) == ["a.mkv", "b.pt", "c.memmap", "d.mp4", "e.gif"]

    def told():
        return [frame.text for frame in browser.find_elements("css selector", ".frame")]

    kind, broken = "Browsers do not play this kind of file: ", "This browser cannot show "
    expected = [kind + "a.mkv", kind + "b.pt", kind + "c.memmap", broken + "d.mp4", broken + "e.gif"]
    assert wait_for(lambda: told() == expected, 10), told()


def test_gifs_move_and_are_loaded_when_they_come_into_view(browser):
    video = record(step=0, frames=5, video_format="gif")
    for step in range(1, 40):
        again(video, step=step, file=f"videos/game_{step}.gif")
    opened(browser, gallery())
    assert 0 < len(browser.find_elements("css selector", ".card img")) < 40
    image = browser.find_element("css selector", ".card img")
    assert wait_for(lambda: browser.execute_script("return arguments[0].naturalWidth", image) == 64, 10)


# for a colleague


def test_an_embedded_page_plays_alone(browser, tmp_path):
    for step in range(3):
        record(step=step, first=100 * step, frames=5)
    edit_index("game,1,", "other,1,")
    assert gallery("--embed", "--where", "tag=game", "--sort", "-step", "-n", 2)
    alone = tmp_path / "for a colleague" / "page.html"
    alone.parent.mkdir()
    (RUN / "index.html").rename(alone)
    RUN.rename("gone")
    opened(browser, alone.as_uri())
    assert shown(browser) == ["game 2", "game 0"]
    play(browser, 0, 1)
    seek(browser, 3)
    assert_seen(browser, [203, 3])
    assert browser.find_elements("css selector", ".card a") == []
    assert_no_error(browser)


def test_what_is_too_large_for_one_page_is_refused(monkeypatch):
    record(step=0)
    found = listing.read(RUN)
    monkeypatch.setattr(page, "MAX_EMBEDDED_BYTES", found.videos[0].bytes - 1)
    with pytest.raises(SettingError, match="choose fewer with --where or -n"):
        page.embedded(found.folder, found.videos)


def test_videos_inside_of_event_files_are_shown_if_embedded_and_named_if_not(browser):
    require("tensorboard")
    logger = TensorboardLogger("board", ".")
    logger.log_video("game", torch.randint(255, (1, 5, 3, 24, 32), dtype=torch.uint8), step=3)
    logger.experiment.close()
    opened(browser, gallery(folder="board"))
    assert shown(browser) == ["game 3"]
    assert "vidrec watch shows it" in browser.find_element("css selector", ".frame").text
    opened(browser, gallery("--embed", "--force", folder="board"))
    image = wait_for(lambda: browser.find_elements("css selector", ".frame img"), 5)[0]
    assert wait_for(lambda: browser.execute_script("return arguments[0].naturalWidth", image) == 32, 10)


# what is installed


def test_without_jinja_the_command_says_what_to_install_and_the_others_work():
    record(step=0)
    lacking = without("jinja2", "starlette", "uvicorn")
    for command in ("gallery", "watch"):
        done = run_python(lacking + AS_A_MODULE, command, RUN, check=False, has=())
        assert (done.returncode, done.stdout) == (1, "")
        assert f'vidrec {command} needs jinja2, which is not installed: pip install "vidrec[web]"' in done.stderr
    done = run_python(lacking + AS_A_MODULE, "list", RUN, "--json", check=False, has=())
    assert len(json.loads(done.stdout)) == 1


def test_the_wheel_has_the_page_and_the_licence(tmp_path):
    require("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    folder = ROOT / "src/vidrec/tools/web"
    wanted = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as archive:
        assert {str(path.relative_to(ROOT / "src")) for path in wanted} <= set(archive.namelist())
        assert b"Leon Sorokin" in archive.read("vidrec/tools/web/vendor/uPlot.LICENSE")
