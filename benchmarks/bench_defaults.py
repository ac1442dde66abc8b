"""Measure what the defaults of mp4 are chosen by: CPU of FFmpeg, size, quality, and which browsers play it.

    python benchmarks/bench_defaults.py [--rounds 3] [--frames 240]

FFmpeg alone encodes the same raw frames with each setting, one after the other in each round; the CPU is the median.
The video is compared with the frames at their own size: PSNR by one pixel of each that was enlarged, SSIM by their
mean, of R, G and B alike. Prints tables in Markdown.
"""

import argparse
import functools
import http.server
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from clips import loop
from peers import FPS

from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.program import find_ffmpeg

CLIPS = ["MsPacman", "Pong", "CartPole", "cheetah"]
VARIANTS: dict[str, dict[str, Any]] = {
    "**the default**": {},
    "crf 18": {"crf": 18},
    "crf 23": {"crf": 23},
    "tune animation": {"options": {"tune": "animation"}},
    "tune zerolatency": {"options": {"tune": "zerolatency"}},
    "scale 1": {"scale": 1},
    "scale 2": {"scale": 2},
    "scale 4": {"scale": 4},
    "scale 1, 4:4:4": {"scale": 1, "pixel_format": "yuv444p"},
    "ultrafast": {"preset": "ultrafast"},
    "ultrafast, crf 23": {"preset": "ultrafast", "crf": 23},
    "superfast": {"preset": "superfast"},
    "superfast, crf 23": {"preset": "superfast", "crf": 23},
    "veryfast": {"preset": "veryfast"},
    "veryfast, crf 18": {"preset": "veryfast", "crf": 18},
    "veryfast, scale 1": {"preset": "veryfast", "scale": 1},
    "faster": {"preset": "faster"},
    "medium": {"preset": "medium"},
}
BROWSERS = {
    "Chromium": ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir={}"],
    "Firefox": ["firefox-esr", "--headless", "--no-remote", "--profile", "{}"],
}
PLAYER = """<script>
const play = name => new Promise(resolve => {
  const video = document.createElement("video")
  const seen = () => resolve([name, video.currentTime > 0.3 && !!video.videoWidth])
  video.muted = true
  video.onerror = () => resolve([name, false])
  video.ontimeupdate = () => video.currentTime > 0.3 && seen()
  setTimeout(seen, 8000)
  video.src = name
  document.documentElement.append(video)
  video.play().catch(() => 0)
})
Promise.all(NAMES.map(play)).then(all => fetch("/", {method: "POST", body: JSON.stringify(Object.fromEntries(all))}))
</script>"""


def raw_arguments(path: str, size: tuple[int, int]) -> list[str]:
    """Return FFmpeg's arguments for raw frames as its input."""
    video_size = f"{size[1]}x{size[0]}"
    return ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", video_size, "-framerate", str(FPS), "-i", path]


def run(*arguments: str | Path) -> bytes:
    """Run FFmpeg, and return what it writes to its stdout and stderr."""
    command = [find_ffmpeg(), "-nostdin", "-hide_banner", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout or done.stderr


def cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quality(path: Path, frames: np.ndarray[Any, Any], raw: str) -> tuple[float, float]:
    """Return the PSNR, in dB, and the SSIM of a video."""
    count, height, width, _ = frames.shape
    size = re.search(
        rb"Video: .*?, (\d+)x(\d+)", subprocess.run([find_ffmpeg(), "-i", path], capture_output=True).stderr
    )
    assert size
    columns, rows = map(int, size.groups())
    pixels = run("-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    factor = rows // height
    decoded = np.frombuffer(pixels, np.uint8).reshape(count, rows, columns, 3)[:, ::factor, ::factor][
        :, :height, :width
    ]
    error = np.mean((decoded.astype(np.float32) - frames) ** 2)
    smaller = f"[0:v]crop={width * factor}:{height * factor}:0:0,scale={width}:{height}:flags=area,format=gbrp[a]"
    graph = f"{smaller};[1:v]format=gbrp[b];[a][b]ssim"
    words = run("-i", path, *raw_arguments(raw, (height, width)), "-lavfi", graph, "-f", "null", "-")
    ssim = re.search(rb"SSIM .*All:([\d.]+)", words)
    assert ssim
    return 10 * np.log10(255**2 / error) if error else np.inf, float(ssim[1])


def plays(folder: Path, names: list[str]) -> dict[str, dict[str, bool]]:
    """Return for each browser that is installed which of these files it plays."""
    answers: list[dict[str, bool]] = []

    class Server(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            come.set()

        def log_message(self, *words: Any) -> None:
            pass

    (folder / "player.html").write_text(PLAYER.replace("NAMES", json.dumps(names)))
    played = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for browser, command in BROWSERS.items():
            if not shutil.which(command[0]):
                continue
            come = threading.Event()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                words = [word.replace("{}", profile) for word in command]
                address = f"http://127.0.0.1:{server.server_port}/player.html"
                process = subprocess.Popen([*words, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if come.wait(60):
                    played[browser] = answers[-1]
                process.terminate()
                process.wait()
        server.shutdown()
    return played


def measure(clip: str, length: int, rounds: int, folder: Path) -> tuple[dict[str, str], list[Path]]:
    """Return a cell of the table for each variant, and the files."""
    shown = loop(clip)
    frames = shown[np.arange(length) % len(shown)]
    size = shown.shape[1:3]
    raw = str(folder / f"{clip}.raw")
    frames.tofile(raw)
    files = [folder / f"{clip}-{number}.mp4" for number in range(len(VARIANTS))]
    spent: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for (name, settings), path in zip(VARIANTS.items(), files, strict=True):
            arguments = Encoding.of("mp4", fps=FPS, **settings).ffmpeg_args(size)
            before = cpu_of_children_s()
            run("-loglevel", "error", *raw_arguments(raw, size), *arguments, path)
            spent[name].append((cpu_of_children_s() - before) * 1e3 / length)
    cells = {}
    for name, path in zip(VARIANTS, files, strict=True):
        psnr, ssim = quality(path, frames, raw)
        cells[name] = f"{median(spent[name]):.2f} / {path.stat().st_size / 1000:.0f} / {psnr:.1f} / {ssim:.4f}"
    os.remove(raw)
    return cells, files


def main(rounds: int, frames: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        cells = {}
        for clip in CLIPS:
            cells[clip], files = measure(clip, frames, rounds, folder)
            print(clip, file=sys.stderr, flush=True)
        played = plays(folder, [path.name for path in files])
    print(f"CPU ms a frame / KB / PSNR in dB / SSIM, {frames} frames\n")
    print(f"| | {' | '.join(CLIPS)} | plays in |\n|---{'|---' * (len(CLIPS) + 1)}|")
    for variant, path in zip(VARIANTS, files, strict=True):
        browsers = ", ".join(browser for browser, answers in played.items() if answers[path.name]) or "none"
        print(f"| {variant} | {' | '.join(cells[clip][variant] for clip in CLIPS)} | {browsers} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=240)
    main(**vars(parser.parse_args()))
