"""What many workers cost that record through one logger in a process of its own.

    python benchmarks/bench_workers.py [workers ...]

Each of 1, 2, 4 and 8 workers records videos of 10 frames, 84x84, at the same time, and publishes each through the
service. Then one video of 1,000 frames, 240x320: what crosses to a process of this machine is a path, to an actor of
Ray the bytes of the file; TorchRL's recorder sends the frames.
"""

import multiprocessing
import os
import pickle
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from clips import frame_of, loop

from vidrec import CSVLogger, VideoRecorder, write
from vidrec.loggers.service import ServiceLogger

VIDEOS, FRAMES, PUBLISHED = 30, 10, 200


def work(number, client, ready, results):
    torch.set_num_threads(1)
    recorder = VideoRecorder(client, f"video{number}", skip=1)
    frames = [torch.full((84, 84, 3), at, dtype=torch.uint8) for at in range(FRAMES)]
    publish_s = []

    def record():
        for frame in frames:
            recorder._apply_transform(frame)
        video = recorder._recording.shown.outputs[0].finished()  # FFmpeg's part: what is left is the service's
        begin = time.perf_counter()
        recorder.dump()
        publish_s.append(time.perf_counter() - begin)
        assert video.frames == FRAMES

    record()
    ready.wait()
    publish_s.clear()
    begin, own = time.perf_counter(), time.process_time()
    for _ in range(VIDEOS):
        record()
    wall = time.perf_counter() - begin
    results.put((wall, (time.process_time() - own) / VIDEOS, statistics.median(publish_s), max(publish_s)))


def publish(number, client, ready, results):
    torch.set_num_threads(1)
    logger = ServiceLogger(client)
    video = write(Path(f"file{number}.mp4").absolute(), torch.zeros(FRAMES, 84, 84, 3, dtype=torch.uint8))
    logger.log_video(f"same{number}", video, 0)
    ready.wait()
    begin = time.perf_counter()
    for step in range(1, 1 + PUBLISHED):
        logger.log_video(f"same{number}", video, step)
    results.put(time.perf_counter() - begin)


def run(target, workers):
    """Run a function in as many processes, and return what each has found."""
    context = multiprocessing.get_context("forkserver")
    logger = CSVLogger("run", service_backend="process", service_backend_options={"context": "forkserver"})
    ready, results = context.Barrier(workers), context.Queue()
    made = [context.Process(target=target, args=(at, logger.client(), ready, results)) for at in range(workers)]
    for process in made:
        process.start()
    found = [results.get(timeout=300) for _ in made]
    for process in made:
        process.join()
    logger.shutdown()
    return found


def measure(workers):
    """Return videos a second, CPU of a worker for each, and how long a publish takes: the median and the longest."""
    walls, cpus, medians, longest = zip(*run(work, workers), strict=True)
    return workers * VIDEOS / max(walls), *map(statistics.median, (cpus, medians)), max(longest)


def crossing():
    """Return how many bytes cross for 1,000 frames of a cheetah: a path, the file, and TorchRL's tensor."""
    logger = CSVLogger("crossing", service_backend="process", service_backend_options={"context": "forkserver"})
    recorder = VideoRecorder(logger, "video", skip=1)
    sent, shown = [], loop("cheetah")
    submit = type(recorder.logger)._submit
    type(recorder.logger)._submit = lambda self, *args, **kw: (sent.append(args), submit(self, *args, **kw))[1]
    for number in range(1000):
        recorder._apply_transform(torch.from_numpy(frame_of(shown, number)))
    video = recorder.dump()
    logger.shutdown()
    return len(pickle.dumps(sent)), video.path.stat().st_size, 1000 * 240 * 320 * 3


def main(counts):
    torch.set_num_threads(1)
    multiprocessing.set_forkserver_preload(["torchrl.record.loggers", "vidrec.recorder"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print("| workers | videos a second | CPU of a worker for each | publishing one | the longest |")
        print("|---|---|---|---|---|")
        for count in counts:
            rate, cpu, median, longest = measure(count)
            print(
                f"| {count} | {rate:.0f} | {cpu * 1e3:.1f} ms | {median * 1e3:.1f} ms | {longest * 1e3:.0f} ms |",
                flush=True,
            )
        rate = 4 * PUBLISHED / max(run(publish, 4))
        print(f"\none logger publishes {rate:.0f} videos a second that are there already, of 4 workers")
        path, file, tensor = crossing()
        print(f"\n1,000 frames of 240x320: {path:,} bytes to a process of this machine, {file:,} to another machine, ")
        print(f"{tensor:,} as TorchRL's tensor: 1/{tensor // path} and 1/{tensor // file}")
        os.chdir("/")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1, 2, 4, 8])
