"""`vidrec watch`: what is served, to whom, and how the page follows a training in Chromium."""

import gzip
import http.client
import json
import os
import re
import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import torch
from conftest import require
from numbered_frames import numbered, read_number
from processes import COMMAND, started, within
from screens import look, set_size, wait_for
from test_cli import AS_A_MODULE, call, published
from test_gallery import (
    READY,
    again,
    balance,
    choose,
    many,
    play,
    record,
    save_screen,
    shown,
    time_first_card,
    train,
)
from test_repair import RUN
from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, TensorboardLogger, VideoRecorder
from vidrec.files.index import VideoIndex

FPS = 30


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


@contextmanager
def served(folder=".", *args, port=0):
    """Serve a folder; yields the process and the address that it printed."""
    with started(AS_A_MODULE, "watch", folder, "--port", port, *args, has=COMMAND) as server:
        address = server.stdout.readline().decode().strip()
        assert address.startswith("http://"), server.stderr.read().decode()
        yield server, address


def ask(address, path="", method="GET", **headers):
    """Ask for a path exactly as it stands; return the answer with its body."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=20)
    try:
        connection.putrequest(method, path or "/", skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.body = answer.read()
        return answer
    finally:
        connection.close()


def data(address, **headers):
    answer = ask(address, "/data", **headers)
    assert answer.status == 200
    return json.loads(answer.body)


# files


def test_a_video_is_served_whole_and_in_ranges():
    content = record(step=0).read_bytes()
    with served() as (_, address):
        [video] = data(address)["videos"]
        path = f"/{video['address']}"
        whole = ask(address, path)
        assert (whole.status, whole.body) == (200, content)
        assert whole.headers["Content-Type"] == "video/mp4"
        assert whole.headers["Accept-Ranges"] == "bytes"
        for asked, (begin, end) in {"10-19": (10, 20), "100-": (100, None), "-7": (-7, None), "0-0": (0, 1)}.items():
            part = ask(address, path, Range=f"bytes={asked}")
            assert (part.status, part.body) == (206, content[begin:end])
        assert part.headers["Content-Range"] == f"bytes 0-0/{len(content)}"
        assert ask(address, path, Range=f"bytes={len(content)}-").status == 416
        assert (ask(address, path, "HEAD").status, ask(address, path, "HEAD").body) == (200, b"")
        assert [ask(address, path, method).status for method in ("POST", "PUT", "DELETE")] == [405] * 3


def test_what_is_told_is_the_data_of_the_gallery_and_is_packed_on_request():
    video = record(step=0)
    again(video, step=7, tag="<b>", ended="truncated", **{"return": "nan"})
    (RUN / "scalars/loss.csv").write_text("0,1\n5,2\n")
    with served() as (_, address):
        told = data(address)
        assert [(one["tag"], one["step"], one["return"]) for one in told["videos"]] == [
            ("game", 0, None),
            ("<b>", 7, "nan"),
        ]
        assert told["curves"] == [{"name": "loss", "run": "run", "steps": [0, 5], "values": [1.0, 2.0]}]
        packed = ask(address, "/data", Accept_Encoding="gzip")
        assert json.loads(gzip.decompress(packed.body)) == told
        news = json.loads(ask(address, "/news").body)
        assert news == {"version": packed.headers["X-Version"], "clips": {}}


def test_a_video_inside_of_an_event_file_is_served():
    require("tensorboard")
    logger = TensorboardLogger("board", ".")
    logger.log_video("game", torch.randint(255, (1, 5, 3, 24, 32), dtype=torch.uint8), step=3)
    logger.experiment.close()
    with served() as (_, address):
        [video] = data(address)["videos"]
        answer = ask(address, f"/{video['address']}")
        assert answer.headers["Content-Type"] == "image/apng"
        assert len(answer.body) == video["bytes"]
        assert answer.body.startswith(b"\x89PNG")


# nothing else


SECRET = b"0,1.5\nsecret"


def test_no_path_leads_out_of_the_folder():
    Path("outside.mp4").write_bytes(SECRET)
    record(step=0, run=Path("folder/run"))
    outside = str(Path("outside.mp4").absolute())
    index = VideoIndex(Path("folder/run"))
    for file in ("../../outside.mp4", "videos/../../../outside.mp4", outside):
        index.add(tag="out", step=0, file=file)
    names = ["outside.mp4", "../outside.mp4", "..", ".", "", outside, f"..{outside}", "etc/passwd", "\0", "%", "~"]
    quoted = [quote(name) for name in names] + [quote(name, safe="") for name in names]
    quoted += [quoted[-1].replace("%2F", "%252f"), "..%5coutside.mp4", "%c0%ae%c0%ae/outside.mp4", ";/outside.mp4"]
    with served("folder") as (server, address):
        assert [one["tag"] for one in data(address)["videos"]] == ["game"]
        own = data(address)["videos"][0]["address"]
        places = ["", "/", "/video/", "/clip/", "/data/", "/news/", f"/{own}/", f"/{own}/../", "/static/", "//"]
        for place in places:
            for name in quoted:
                path = f"{place}{name}"
                answer = ask(address, path if path.startswith("/") else f"/{path}")
                assert b"secret" not in answer.body, path
                assert answer.status in (200, 307, 404, 400), path
                # the page itself, and what it asks for, at most
                assert answer.status != 200 or path.strip("/.") in ("", "data", "news", own), path
        for begin in ("-1", "a", "1e3", "%00", "9" * 40, "٣"):
            assert ask(address, f"/clip/{own}?from={quote(begin, safe='%')}").status in (400, 404)
        assert server.poll() is None


def test_no_link_leads_out_of_the_folder(browser):
    Path("outside/scalars").mkdir(parents=True)
    Path("outside/scalars/loss.csv").write_bytes(SECRET)
    video = record(step=0, run=Path("outside/run"), tag="secret")
    own = record(step=0, run=Path("folder/run"))
    second = record(step=1, run=Path("folder/run"))
    folder = Path("folder")
    (folder / "link.mp4").symlink_to(video)
    (folder / "passwd.mp4").symlink_to("/etc/passwd")
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "linked").symlink_to(Path("outside").absolute())
    (folder / "run/scalars/more.csv").symlink_to(Path("outside/scalars/loss.csv").absolute())
    (folder / "live.part-01234567.mp4").symlink_to(video)
    (folder / "latest.mp4").symlink_to(own)
    os.mkfifo(folder / "pipe.mp4")
    # an index elsewhere, which tells of a video that is here
    other = record(step=0, run=folder / "other")
    Path("folder/other/videos.csv").rename("outside/index.csv")
    (folder / "other/videos.csv").symlink_to(Path("outside/index.csv").absolute())
    assert other.exists()
    with served(folder) as (server, address):
        told = data(address)
        assert sorted(one["file"] for one in told["videos"]) == [
            "latest.mp4",
            *(f"run/videos/game_{step}.mp4" for step in (0, 1)),
        ]
        assert (told["curves"], told["clips"]) == ([], [])
        assert "secret" not in json.dumps(told)
        assert told["notes"] == ["4 videos are behind a link that leads out of the folder, and not shown"]
        [latest] = [one for one in told["videos"] if one["file"] == "latest.mp4"]
        assert ask(address, f"/{latest['address']}").body == own.read_bytes()
        # what was a file when the folder was looked through may be a link by now
        [swapped] = [one for one in told["videos"] if one["file"].endswith("game_1.mp4")]
        assert ask(address, f"/{swapped['address']}").status == 200
        for target in (video, Path("/etc/passwd"), Path("/dev/zero"), Path("/nowhere")):
            second.unlink()
            second.symlink_to(target)
            assert ask(address, f"/{swapped['address']}").status == 404
        browser.get(address)
        assert wait_for(lambda: "not shown" in browser.find_element("id", "trouble").text, 10)
        assert server.poll() is None


def test_a_page_of_somebody_else_whose_name_leads_here_is_refused():
    record(step=0)
    with served() as (_, address):
        port = urlsplit(address).port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:8000", "LOCALHOST", "[::1]:80", "127.0.0.1"):
            assert ask(address, "/data", Host=host).status == 200, host
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":",
        ):
            answer = ask(address, "/data", Host=host)
            assert answer.status in (400, 403), host
            assert b"game" not in answer.body
        answer = ask(address)
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_beyond_this_machine_each_answer_needs_the_token_of_the_address():
    record(step=0)
    with served(".", "--host", "0.0.0.0") as (_, address):
        assert urlsplit(address).hostname == socket.gethostname().lower()
        token = re.fullmatch(r"token=([\w-]{32})", urlsplit(address).query)[1]
        first = ask(address, f"/?token={token}", Host="training.example:80")
        cookie = first.headers["Set-Cookie"].split(";")[0]
        assert "HttpOnly" in first.headers["Set-Cookie"]
        assert "SameSite=Strict" in first.headers["Set-Cookie"]
        [video] = data(address, Cookie=cookie)["videos"]
        paths = ["/", "/data", "/news", f"/{video['address']}", "/clip/0"]
        assert [ask(address, path, Cookie=cookie).status for path in paths] == [200, 200, 200, 200, 404]
        name = cookie.partition("=")[0]
        for more in ({}, {"Cookie": f"{name}={token[:-1]}"}, {"Cookie": f"{name}="}, {"Cookie": f"other={token}"}):
            assert [ask(address, path, **more).status for path in paths] == [403] * 5
        for wrong in ("", token[1:], token + "0", "%00", "ü"):
            answer = ask(address, f"/?token={quote(wrong, safe='%')}")
            assert (answer.status, answer.headers["Set-Cookie"]) == (403, None)


# the command


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_a_word_when_it_is_told_to_even_while_it_is_asked(sent):
    record(step=0)
    with served() as (server, address):
        with socket.create_connection(("127.0.0.1", urlsplit(address).port)):
            server.send_signal(sent)
            code = server.wait(10)
        assert code == (0 if sent == signal.SIGINT else -signal.SIGTERM)
        assert (server.stdout.read(), server.stderr.read()) == (b"", b"")


def test_a_port_that_is_taken_is_named():
    RUN.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("watch", RUN, "--port", port)
    assert done.returncode == 2
    said = " ".join(done.stderr.replace("│", " ").split())
    assert f"nothing can listen on port {port} of 127.0.0.1: Address already in use; --port 0 chooses one" in said
    assert "there is no host no.such.host.invalid" in call("watch", RUN, "--host", "no.such.host.invalid").stderr


# the page


COUNT_ASKED = """
window.asked = () => performance.getEntriesByType("resource").filter(entry => entry.name.endsWith("/news")).length;
new MutationObserver(() => window.told ??= asked()).observe(document.querySelector("#cards"), {childList: true});
"""


def test_the_page_grows_with_the_folder_and_what_plays_goes_on(browser):
    Path("run").mkdir()
    with served() as (server, address):
        browser.get(address)
        assert wait_for(lambda: browser.find_element("id", "count").text == "0 videos", 10)
        browser.execute_script(COUNT_ASKED)
        published(frames=300, step=0)
        before = browser.execute_script("return asked()")
        assert wait_for(lambda: shown(browser) == ["game 0"], 10)
        assert browser.execute_script("return told") <= before + 2  # one was on its way; the page asks each second
        assert wait_for(lambda: browser.execute_script(READY), 10)
        browser.execute_script("window.first = document.querySelector('#cards video'); first.play()")
        browser.execute_script("document.querySelector('#cards input').focus()")
        second = published(frames=20, step=1)
        assert wait_for(lambda: shown(browser) == ["game 1", "game 0"], 10)
        state = "return [first.isConnected, first.paused, first.currentTime]"
        connected, paused, before_s = browser.execute_script(state)
        assert (connected, paused) == (True, False)
        assert browser.execute_script("return document.activeElement.closest('.card')?.contains(first)")
        assert wait_for(lambda: browser.execute_script(state)[2] > before_s, 5)
        choose(browser, "words", "step 1")
        VideoIndex(RUN).delete([row for row in VideoIndex(RUN).rows() if row["step"] == "1"])
        assert not second.exists()
        assert wait_for(lambda: browser.find_element("id", "count").text == "0 of 1 video", 10)
        server.terminate()
        assert wait_for(lambda: "was it ended?" in browser.find_element("id", "trouble").text, 10)


def test_two_thousand_videos_are_served_and_begin_with_sixty_cards(browser):
    video = record(step=0)
    many(video, 2000)
    with served() as (_, address):
        time_first_card(browser, address)
        assert len(shown(browser)) == 60
        assert browser.find_element("id", "count").text == "2000 videos"
        play(browser, 0, 1)


LIVE = """
import os, sys, time
from numbered_frames import numbered
from vidrec import CSVLogger, VideoRecorder

recorder = VideoRecorder(CSVLogger("run", ".", sys.argv[1]), "live", skip=1, fps=30)
count = os.open("count", os.O_CREAT | os.O_WRONLY)
begun = time.monotonic()
for number in range(30 * 7):
    time.sleep(max(0, begun + number / 30 - time.monotonic()))
    recorder._apply_transform(numbered(number, (240, 320)))
    os.pwrite(count, b"%04d" % number, 0)
recorder.dump()
"""


@pytest.mark.parametrize("video_format", ["mp4", pytest.param("webm", marks=pytest.mark.long)])
def test_a_clip_that_is_being_recorded_plays_at_most_two_seconds_behind(browser, video_format):
    RUN.mkdir()
    set_size(browser, 1200, 900)
    with served() as (_, address):
        browser.get(address)
        with started(LIVE, video_format) as training:
            playing = (
                "const v = document.querySelector('#live video'); return v && v.readyState > 2 && v.currentTime > 0"
            )
            assert wait_for(lambda: browser.execute_script(playing), 10)
            live = browser.find_element("css selector", "#live video")
            assert "recording" in browser.find_element("css selector", "#live .card").text
            begun, lags, seen = time.monotonic(), [], []
            while time.monotonic() - begun < 3.5:
                now = int(Path("count").read_text())
                seen.append(read_number(look(live)))
                lags.append((now - seen[-1]) / FPS)
            training.wait(60)
            assert training.returncode == 0, training.stderr.read()
        lags.sort()
        print(f"behind: {lags[len(lags) // 2]:.2f} s in the middle, {lags[-1]:.2f} s at most")
        assert lags[int(0.9 * len(lags))] <= 2, lags
        assert seen[-1] - seen[0] > 2 * FPS
        assert seen == sorted(seen)
        assert wait_for(lambda: shown(browser) == ["live 0"], 10)
        assert not browser.find_element("id", "live").is_displayed()
        assert wait_for(lambda: browser.execute_script(READY), 10)


def test_a_clip_that_browsers_cannot_play_while_it_grows_is_named(browser):
    RUN.mkdir()
    recorder = VideoRecorder(CSVLogger("run", ".", "gif"), "game", skip=1)
    recorder._apply_transform(numbered(0))
    with served() as (_, address):
        browser.get(address)
        assert wait_for(lambda: browser.find_elements("css selector", "#live .card"), 10)
        assert "It can be seen when it is finished." in browser.find_element("id", "live").text
        recorder.dump(step=3)
        assert wait_for(lambda: shown(browser) == ["game 3"], 10)
        assert not browser.find_element("id", "live").is_displayed()


@pytest.mark.long
def test_a_training_is_watched(browser):
    train(evaluations=3)
    recorder = VideoRecorder(CSVLogger("slow", "runs"), "eval", skip=1, fps=50)
    env = TransformedEnv(GymEnv("CartPole-v1", from_pixels=True, pixels_only=False), recorder)
    set_size(browser, 1100, 760)
    with served("runs") as (_, address):
        env.rollout(200, balance(0.0), break_when_any_done=False)
        browser.get(address)
        playing = "return document.querySelector('#live video')?.currentTime > 0"
        assert wait_for(lambda: browser.execute_script(playing), 10)
        assert "eval" in browser.find_element("css selector", "#live .card h2").text
        assert wait_for(lambda: browser.execute_script(READY) >= 4, 10)
        save_screen(browser, "watch")
    env.close()
