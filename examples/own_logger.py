"""A logger of one's own: videos in a folder, and a line of JSON for each."""

import json
from collections import Counter
from pathlib import Path

from vidrec import VideoLogger
from vidrec.loggers import check_name, encoding_of, finished, open_clip, publish


class JsonLogger(VideoLogger):
    def __init__(self, folder):
        self.folder = Path(folder).absolute()
        self.steps = Counter()

    def open_clip(self, tag, **settings):
        encoding = encoding_of("mp4", 30, settings)
        return open_clip(self.folder / check_name(tag), encoding)

    def log_video(self, name, video, step=None, **settings):
        if step is None:
            step = self.steps[name]
            self.steps[name] += 1
        with finished(video, name, lambda: self.open_clip(name, **settings)) as whole:
            path = publish(whole.path, self.folder / f"{check_name(name)}_{step}.mp4")
        with (self.folder / "videos.jsonl").open("a") as file:
            file.write(json.dumps({"file": path.name, "step": step, "frames": whole.frames}) + "\n")
        return whole.at(path)

    def remove_video(self, video):
        video.path.unlink(missing_ok=True)
