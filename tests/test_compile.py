"""A compiled `env.step` records each frame once, in one graph; TorchRL's recorder compiles again for each frame."""

import shutil

import pytest
import torch
import torchrl.record
from conftest import compiles_steps, missing, some
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import Compose, EnvBase, StepCounter, TransformedEnv
from worlds import KeepLogger

from vidrec import CSVLogger, FrameError, VideoRecorder

pytestmark = compiles_steps


class TensorEnv(EnvBase):
    """All tensors, so that its step can be one graph: step n shows a grey of n, and each fifth step is done."""

    def __init__(self, batch_size=()):
        super().__init__(batch_size=torch.Size(batch_size))
        self.observation_spec = Composite(
            pixels=Unbounded((*batch_size, 24, 32, 3), dtype=torch.uint8),
            number=Unbounded((*batch_size, 1), dtype=torch.int64),
            shape=batch_size,
        )
        self.action_spec = Bounded(0, 1, (*batch_size, 1))
        self.reward_spec = Unbounded((*batch_size, 1))
        flag = Categorical(2, shape=(*batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=flag, terminated=flag.clone(), shape=batch_size)

    def _out(self, number, **more):
        pixels = number[..., None, None].to(torch.uint8).expand(*self.batch_size, 24, 32, 3).contiguous()
        done = (number > 0) & (number % 5 == 0)
        return TensorDict(
            {"pixels": pixels, "number": number, "done": done, "terminated": done.clone(), **more}, self.batch_size
        )

    def _reset(self, tensordict=None):
        return self._out(torch.zeros(*self.batch_size, 1, dtype=torch.int64))

    def _step(self, tensordict):
        return self._out(tensordict["number"] + 1, reward=torch.ones(*self.batch_size, 1))

    def _set_seed(self, seed):
        pass


@pytest.fixture(autouse=True)
def counts():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return torch._dynamo.utils.counters


def walk(env, steps, **how):
    """Take compiled steps in one graph each; return the greys of the pixels that they gave on."""
    step = torch.compile(env.step, fullgraph=True, **{"backend": "aot_eager", **how})
    td, shown = env.reset(), []
    for _ in range(steps):
        td["action"] = torch.zeros(*env.batch_size, 1)
        td = step(td)["next"].clone()
        shown.append(int(td["pixels"].flatten()[0]))
    return shown


def greys(video):
    return video[0, :, 0, 0, 0].tolist()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_each_frame_is_recorded_once_in_one_graph_that_is_not_compiled_again(counts, backend):
    if backend == "inductor" and not shutil.which("g++"):
        missing("there is no compiler, g++")
    logger = KeepLogger()
    env = TransformedEnv(TensorEnv(), Compose(VideoRecorder(logger, "video", skip=1), StepCounter()))
    assert walk(env, 40, backend=backend) == list(range(1, 41))
    env.transform.dump()
    assert greys(logger.videos[0]) == list(range(41))
    # one for what `reset` returned, and one for what a step did
    assert counts["stats"]["unique_graphs"] <= 2
    assert not counts["graph_break"]
    assert not counts["recompile_limit"]


@pytest.mark.long
def test_torchrls_recorder_compiles_again_for_each_frame_and_gives_up_at_the_limit():
    env = TransformedEnv(TensorEnv(), torchrl.record.VideoRecorder(KeepLogger(), "video", skip=1))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        walk(env, 40)


@pytest.mark.parametrize("batch_size", some([(), (2,)], (2,)))
def test_an_episode_that_ends_in_the_graph_has_its_video(batch_size):
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False, dump_on_done=True)
    env = TransformedEnv(TensorEnv(batch_size), recorder)
    walk(env, 5)
    names = {path.name.rpartition("_")[0] for path in (recorder.logger.experiment._videos).iterdir()}
    assert names == ({"video_ep0"} if not batch_size else {"video_env0_ep0", "video_env1_ep0"})


@pytest.mark.parametrize("before", some([True, False], True))
def test_in_a_loop_of_compiled_steps_the_end_that_a_transform_behind_makes_is_not_seen(before):
    logger = KeepLogger()
    transforms = [StepCounter(max_steps=3), VideoRecorder(logger, "video", skip=1, dump_on_done=True)]
    env = TransformedEnv(TensorEnv(), Compose(*transforms[:: 1 if before else -1]))
    walk(env, 3)
    env.reset()
    assert [greys(video) for video in logger.videos] == ([[0, 1, 2, 3]] if before else [])
    env.transform.dump()
    assert greys(logger.videos[-1]) == ([0] if before else [0, 1, 2, 3, 0])  # nothing is lost


def test_out_keys_are_filled_and_two_recorders_have_each_their_frames(counts):
    loggers = [KeepLogger(), KeepLogger()]
    first = VideoRecorder(loggers[0], "first", skip=1, out_keys=["seen"])
    env = TransformedEnv(TensorEnv(), Compose(first, VideoRecorder(loggers[1], "second", skip=2, in_keys=["seen"])))
    assert walk(env, 6) == list(range(1, 7))
    env.transform.dump()
    assert [greys(logger.videos[0]) for logger in loggers] == [list(range(7)), [1, 3, 5]]
    assert not counts["graph_break"]


def test_a_frame_that_is_refused_is_refused_out_of_the_graph_too():
    class Floats(TensorEnv):
        def _out(self, number, **more):
            td = super()._out(number, **more)
            return td.set("pixels", td["pixels"].float() - 7)

    env = TransformedEnv(Floats(), VideoRecorder(KeepLogger(), "video", skip=2))
    with pytest.raises(FrameError, match="'pixels'"):
        walk(env, 3)
