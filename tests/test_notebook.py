"""Videos in a notebook, and as clips of moviepy's."""

import gc
import json
import os
import re
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ENCODED, require, some
from numbered_frames import decode, numbered, numbers_in, read_number
from processes import run_python
from screens import look, moves, wait_for
from torchrl.envs import TransformedEnv
from worlds import PixelsEnv

import vidrec
from vidrec import CSVLogger, Encoding, SettingError, Video, VideoRecorder
from vidrec.clips import notebook
from vidrec.errors import EncoderError, FrameError

NOTEBOOK = Path(__file__).parent.parent / "examples/notebook.ipynb"

PLAYED = ["mp4", "webm"]
IMAGES = [name for name in ("gif", "apng", "webp") if name in ENCODED]
OTHERS = ["mkv", "pt", "memmap"]

PLAY = """
    const [video, seconds] = arguments;
    video.currentTime = seconds;
    return video.play();
"""

SHOW_FRAME = """
    const [video, seconds, done] = arguments;
    video.pause();
    video.addEventListener("seeked", () => requestAnimationFrame(() => requestAnimationFrame(done)), {once: true});
    video.currentTime = seconds;
    video.requestVideoFrameCallback(() => {});  // or a busy Chromium may keep the old frame in sight
"""


def record(video_format="mp4", frames=40, fps=20, tag="video", **settings):
    """Return a video of numbered frames, 96 x 128."""
    logger = CSVLogger("run", video_format=video_format)
    clip = logger.open_clip(tag, fps=fps, **settings)
    for number in range(frames):
        clip.write(numbered(number, (96, 128))[None])
    try:
        return logger.log_video(tag, clip.finish())
    finally:
        clip.published()


def open_page(browser, *videos, folder="."):
    """Open a page with the HTML of videos, as a notebook in a folder shows it."""
    page = Path(folder, "page.html").absolute()
    body = "".join(video if isinstance(video, str) else video._repr_html_() for video in videos)
    page.write_text(f'<!doctype html><meta charset="utf-8"><title>videos</title>{body}', encoding="utf-8")
    browser.get(page.as_uri())


def find(browser, selector):
    from selenium.webdriver.common.by import By

    return browser.find_elements(By.CSS_SELECTOR, selector)


def assert_plays(browser, player, video):
    """Play it from its beginning: it goes on, in the size and for as long as the video."""

    def get(name):
        return browser.execute_script(f"return arguments[0].{name}", player)

    browser.execute_script(PLAY, player, 0)
    assert wait_for(lambda: get("currentTime") > 0.3, 10), get("error && arguments[0].error.message")
    assert (get("videoHeight"), get("videoWidth")) == video.size
    assert get("duration") == pytest.approx(video.seconds, abs=0.05)
    assert get("controls")
    assert get("loop")


def assert_shown_at(browser, player, seconds, number):
    """Assert that a player shows this frame at a time, soon: a frame is painted a moment after it is there."""
    browser.execute_async_script(SHOW_FRAME, player, seconds)
    wait_for(lambda: read_number(look(player)) == number, 5)
    assert read_number(look(player)) == number


# in a browser


@pytest.mark.parametrize("video_format", some(PLAYED, "mp4"))
def test_a_video_plays_in_the_page_and_shows_its_frames(browser, video_format):
    video = record(video_format)
    open_page(browser, video)
    [player] = find(browser, "video")
    assert_plays(browser, player, video)
    browser.execute_script("arguments[0].controls = false", player)
    for number in (0, 7, 23, 39):
        assert_shown_at(browser, player, (number + 0.5) / 20, number)


@pytest.mark.parametrize("video_format", some(IMAGES, "gif"))
def test_an_animated_image_moves_in_the_page(browser, video_format):
    open_page(browser, record(video_format))
    [image] = find(browser, "img")
    assert browser.execute_script("return [arguments[0].naturalHeight, arguments[0].naturalWidth]", image) == [96, 128]
    assert read_number(look(image)) in range(40)
    assert moves(image)


@pytest.mark.parametrize("video_format", some(OTHERS, "pt"))
def test_what_browsers_do_not_play_is_shown_as_an_mp4(browser, video_format):
    video = record(video_format)
    open_page(browser, video)
    [player] = find(browser, "video")
    assert wait_for(lambda: browser.execute_script("return arguments[0].readyState >= 2", player), 10)
    browser.execute_script("arguments[0].controls = false", player)
    for number in (0, 17, 39):
        assert_shown_at(browser, player, (number + 0.5) / 20, number)
    assert f"Shown as an mp4: browsers do not play {video_format}." in find(browser, "figcaption")[0].text


def test_a_file_that_is_large_is_linked_and_plays_from_where_it_is(browser, monkeypatch):
    monkeypatch.setattr(notebook, "MAX_EMBEDDED_BYTES", 1000)
    for video in (record(), record("gif")):
        assert "base64" not in video._repr_html_()
        open_page(browser, video)
        place = os.path.relpath(video.path)
        assert find(browser, "video, img")[0].get_dom_attribute("src") == place
        [link] = find(browser, "a")
        assert (link.get_dom_attribute("href"), link.text) == (place, video.path.name)
        assert "Linked, because more than 1.0 kB are not put into a notebook" in find(browser, "figcaption")[0].text
        if video.path.suffix == ".mp4":
            assert_plays(browser, find(browser, "video")[0], video)
        else:
            assert moves(find(browser, "img")[0])


@pytest.mark.parametrize("limit", [32_000_000, 1000])
def test_a_hostile_name_is_text_and_no_script_runs(browser, monkeypatch, limit):
    monkeypatch.setattr(notebook, "MAX_EMBEDDED_BYTES", limit)
    name = """x"'><img src=x onerror="document.title='run'"><script>document.title='run'<%2Fscript>&amp;%41?#ü.mp4"""
    video = vidrec.write(Path("javascript:folder", name), [numbered(i) for i in range(40)], 20)
    open_page(browser, video)
    [player] = find(browser, "video")
    assert_plays(browser, player, video)
    assert browser.title == "videos"
    assert find(browser, "img, script") == []
    assert name in find(browser, "figcaption")[0].text
    assert player.get_dom_attribute("title").startswith(f"{name}: ")


# the line below it, and what cannot be shown


def caption(html):
    return html.partition("<figcaption>")[2].partition("</figcaption>")[0].split("<br>")


def test_the_line_says_what_the_video_is():
    env = TransformedEnv(PixelsEnv(horizon=9), VideoRecorder(CSVLogger("run"), "game", skip=1, keep=lambda _: True))
    env.rollout(20)
    video = env.transform.videos[-1]
    size = f"{video.path.stat().st_size / 1000:.1f} kB"
    about = ["256 x 192", "10 frames", "30 fps", "0.33 s", size, "return 9", "length 9"]
    place = "<code>csv_logs/run/videos/game_ep0_0.mp4</code>"
    assert caption(video._repr_html_()) == [" \N{MIDDLE DOT} ".join([place, *about])]
    env.close()


def test_the_line_of_a_video_of_one_frame_and_an_odd_rate():
    video = vidrec.write("one.mp4", [numbered(0)], Fraction(30000, 1001))
    assert "1 frame \N{MIDDLE DOT} 29.97 fps \N{MIDDLE DOT} 0.03 s" in video._repr_html_()


def test_the_line_has_the_whole_path_of_a_file_that_is_not_below_the_working_directory(tmp_path, monkeypatch):
    video = vidrec.write("one.mp4", [numbered(0)])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"<code>{tmp_path}/one.mp4</code>" in video._repr_html_()


def test_the_player_has_a_label():
    label = "video_0.{}: a video of 40 frames, {} x {} pixels"
    assert f'aria-label="{label.format("mp4", 512, 384)}"' in record()._repr_html_()
    assert f'alt="{label.format("gif", 128, 96)}"' in record("gif")._repr_html_()


def test_a_file_that_was_deleted_is_said_to_be_gone():
    video = record(tag="<b>")
    video.path.unlink()
    assert video._repr_html_() == "<p>&lt;b&gt;_0.mp4 is not there any more: it was deleted or moved.</p>"


def test_a_name_that_is_no_utf8_is_shown():
    path = Path(os.fsdecode(b"\xff.mp4"))
    assert "<code>\\udcff.mp4</code>" in vidrec.write(path, [numbered(0)])._repr_html_()


@pytest.mark.parametrize("video_format", some(OTHERS, "pt"))
def test_of_a_tensor_that_is_large_the_first_frames_are_shown(browser, monkeypatch, video_format):
    monkeypatch.setattr(notebook, "MAX_PREVIEW_BYTES", 25 * 3 * 96 * 128 + 1)
    video = record(video_format)
    open_page(browser, video)
    text = f"Shown as an mp4, of the first 25 frames: browsers do not play {video_format}."
    assert text in find(browser, "figcaption")[0].text
    [player] = find(browser, "video")
    assert wait_for(lambda: browser.execute_script("return arguments[0].duration", player), 10) == pytest.approx(1.25)


def test_a_tensor_that_is_no_video_says_why():
    video = CSVLogger("run", video_format="pt").log_video("labels", torch.full((1, 3, 3, 8, 8), 300))
    assert "It cannot be shown: " in caption(video._repr_html_())[1]
    video.path.write_bytes(b"PK")
    assert "It cannot be shown: " in caption(video._repr_html_())[1]


# recorder.show()


def test_show_says_that_dump_comes_first():
    env = TransformedEnv(PixelsEnv(), VideoRecorder(CSVLogger("run"), "video"))
    env.rollout(9)
    with pytest.raises(SettingError, match=r"no published video to show; call dump\(\) first"):
        env.transform.show()
    env.close()


def test_show_says_where_the_video_is_if_this_is_no_notebook():
    env = TransformedEnv(PixelsEnv(), VideoRecorder(CSVLogger("run"), "video"))
    env.rollout(9)
    video = env.transform.dump()
    with pytest.raises(SettingError, match=rf"needs a notebook .*; open {video.path}"):
        env.transform.show()
    env.close()


def test_show_says_so_in_ipython_in_a_terminal_too():
    require("IPython")
    script = """
    from IPython.core.interactiveshell import InteractiveShell
    InteractiveShell.instance()
    import torch, vidrec
    from vidrec.clips.notebook import show
    try:
        show(vidrec.write("a.mp4", torch.zeros(3, 48, 64, 3)))
    except vidrec.SettingError as error:
        print(error)
    """
    said = run_python(script).stdout
    assert re.fullmatch(r"show\(\) needs a notebook .*, and this is none; open \S+/a\.mp4\n", said)


@pytest.mark.long
def test_a_recorder_works_without_ipython_and_imports_none():
    run_python(
        "import sys, vidrec; vidrec.VideoRecorder; vidrec.Video._repr_html_; assert 'IPython' not in sys.modules",
        has=(),
    )


# the example


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run the example as Jupyter does; return it with its outputs, and the folder that it ran in."""
    require("nbclient", "nbconvert", "ipykernel", "pygame")
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    places = {name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    with pytest.MonkeyPatch.context() as patch:
        for name, place in places.items():
            patch.setenv(name, place)
        content = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(content, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return content, folder


def test_the_example_is_stored_without_outputs():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 2
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.long
def test_the_videos_of_the_example_play_in_the_page_that_nbconvert_makes(browser, executed):
    from nbconvert import HTMLExporter

    content, folder = executed
    page = folder / "notebook.html"
    page.write_text(HTMLExporter().from_notebook_node(content)[0], encoding="utf-8")
    browser.get(page.as_uri())
    frames = len(decode(folder / "videos/notebook/videos/cartpole_0.mp4"))
    video = Video(page, frames, Fraction(50), 400, 600, Encoding())
    players = find(browser, ".jp-OutputArea video")
    assert len(players) == 2
    for player in players:
        assert_plays(browser, player, video)
    [image] = find(browser, ".jp-OutputArea img")
    assert browser.execute_script("return [arguments[0].naturalHeight, arguments[0].naturalWidth]", image) == [400, 600]
    assert moves(image)
    assert len(decode(folder / "videos/first_second.gif")) == 50


# clips of moviepy's

FPS = [30, Fraction(30000, 1001), 7.5, Fraction(100, 3), 12.34]

# moviepy leaves the pipes of an FFmpeg that has ended to the garbage collector
with_moviepy = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@with_moviepy
@pytest.mark.parametrize("fps", some(FPS, FPS[1]))
@pytest.mark.parametrize("video_format", some([*PLAYED, *IMAGES, *OTHERS], "mp4", "gif", "pt"))
def test_each_frame_of_the_clip_is_that_of_the_video(video_format, fps):
    video = record(video_format, frames=123, fps=fps)  # 123 / 30 * 30 is less than 123
    clip = video.to_moviepy()
    assert clip.fps == float(video.fps)
    assert clip.duration == clip.end == pytest.approx(video.seconds, abs=1e-9)
    assert (clip.n_frames, tuple(clip.size), clip.audio) == (123, (video.width, video.height), None)
    assert list(map(read_number, clip.iter_frames())) == list(range(123))
    # forwards, backwards, and from where FFmpeg begins anew
    for number in [122, 0, 1, 120, 5, 4, 3, 110, 2, 60, 59, 121]:
        assert read_number(clip.get_frame(float((number + 0.5) / video.fps))) == number
    clip.close()


@with_moviepy
def test_the_pixels_of_the_clip_are_those_of_the_video():
    for video_format in (*PLAYED, *IMAGES, *OTHERS):
        video = record(video_format, frames=3)
        clip = video.to_moviepy()
        for number, frame in enumerate(video.iter_frames()):
            assert np.array_equal(clip.get_frame(number / 20), frame.numpy())
        clip.close()


@with_moviepy
@pytest.mark.parametrize("video_format", some(["mp4", "gif", "pt"], "mp4"))
def test_a_cut_has_the_frames_between_its_ends(video_format):
    cut = record(video_format).to_moviepy().subclipped(0.5, 1.25)  # the clip itself is not kept
    gc.collect()
    written = vidrec.write("cut.mp4", cut.iter_frames(), cut.fps)
    assert (written.frames, written.fps) == (15, 20)
    assert numbers_in(written.path) == list(range(10, 25))
    cut.close()


@with_moviepy
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("video_format", ["mp4", "webm", "gif", "apng", "memmap"])
def test_a_clip_may_be_short(video_format, frames):
    clip = record(video_format, frames).to_moviepy()
    assert list(map(read_number, clip.iter_frames())) == list(range(frames))
    clip.close()


@with_moviepy
def test_the_working_directory_may_change_while_a_clip_is_open(tmp_path, monkeypatch):
    video = vidrec.write("here:there.mp4", [numbered(i) for i in range(200)])
    clip = video.at(Path("here:there.mp4")).to_moviepy()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [read_number(clip.get_frame((number + 0.5) / 30)) for number in (150, 3)] == [150, 3]
    clip.close()


@with_moviepy
def test_the_copy_of_an_animated_image_goes_with_the_clip_and_not_with_a_child(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    clip = record("gif").to_moviepy()
    [folder] = (tmp_path / "temporary").iterdir()
    if (child := os.fork()) == 0:
        del clip
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert list(folder.iterdir())
    clip.close()
    del clip
    gc.collect()
    assert not folder.exists()


def test_a_clip_of_what_is_not_there_or_empty_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for video in (record(), record("gif")):
        video.path.unlink()
        with pytest.raises(EncoderError, match=f"FFmpeg cannot read {video.path}"):
            video.to_moviepy()
    empty = CSVLogger("run", video_format="memmap").log_video("empty", torch.zeros(1, 0, 3, 48, 64, dtype=torch.uint8))
    with pytest.raises(FrameError, match="holds no frames"):
        empty.to_moviepy()
    assert list((tmp_path / "temporary").iterdir()) == []
