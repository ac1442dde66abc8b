"""How much time a step of an environment takes, as far as the environment says so.

It is read from attributes, and no simulator is imported. The first of these that is a positive number counts:

    highway-env        config["policy_frequency"]: its render_fps is that of videos at twice the speed
    MuJoCo             dt, where there is a model with opt.timestep: more exact than render_fps
    ALE                60 frames a second, _frameskip of them a step
    dm_control         control_timestep()
    VMAS               world.dt
    TorchRL's MuJoCo   frame_skip of the backend's timestep
    Gymnasium and PettingZoo    metadata["render_fps"]
    others             step_dt, dt

A step of wrappers and transforms that repeat actions takes as many steps of what they wrap.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torchrl.envs import EnvBase, ParallelEnv, SerialEnv, TransformedEnv
from torchrl.envs.transforms import FrameSkipTransform, Transform

from vidrec.errors import SettingError, VidrecWarning
from vidrec.sources.chain import parts_before, parts_below

ALE_FPS = 60

LIKE_REAL_TIME = (Fraction(4, 5), Fraction(5, 4))
"""How much slower or faster a video may play without a warning."""

LOOKED_AT = (
    "metadata['render_fps'] (Gymnasium, PettingZoo)",
    "dt (MuJoCo, TorchRL)",
    "_frameskip (ALE)",
    "control_timestep() (dm_control)",
    "world.dt (VMAS)",
    "config['policy_frequency'] (highway-env)",
)
"""The places, for an error."""

INNER = ("_env", "env", "envs", "aec_env", "par_env")
"""Where an environment of a simulator has the one that it wraps; of several the first counts."""

SKIPS = ("frame_skip", "_skip")
"""Where a wrapper has how many steps of what it wraps one of its own takes: AtariPreprocessing, MaxAndSkip."""

ANSWER_S = 0.1
"""How long to wait for a worker, before it is looked at whether it lives."""

_warned = False
"""Whether this process has warned of a speed."""


def seconds_per_step(env: EnvBase, recorder: Transform | None) -> Fraction | None:
    """Return how many seconds pass in `env` from one frame that `recorder` is offered to the next; None if unknown."""
    return _seconds(parts_below(env) if recorder is None else parts_before(recorder))


def real_time_fps(env: EnvBase, recorder: Transform, skip: int) -> int | Fraction:
    """Return how many frames a second are the speed of `env`, if `recorder` keeps every `skip`-th.

    Raises:
        SettingError: the environment does not say how long a step takes.
    """
    seconds = seconds_per_step(env, recorder)
    if seconds is None:
        raise SettingError(
            f"fps='env' needs to know how long a step of {name_of(env)} takes, and found no positive number in "
            f"{', '.join(LOOKED_AT)}; give fps=<number>"
        )
    fps = 1 / (skip * seconds)
    return fps.numerator if fps.denominator == 1 else fps


def warn_of_speed(env: EnvBase, recorder: Transform, skip: int, rates: Callable[[], Sequence[Fraction]]) -> None:
    """Warn, once in a process, of a video that plays at quite another speed than `env`; `rates` returns its fps."""
    global _warned
    if _warned or (seconds := seconds_per_step(env, recorder)) is None:
        return
    for fps in _call(rates) or ():  # what it raises, the first frame will
        speed = fps * skip * seconds
        if not LIKE_REAL_TIME[0] <= speed <= LIKE_REAL_TIME[1]:
            how = f"{float(speed):.3g} times as fast as" if speed > 1 else f"at {float(speed):.3g} of the speed of"
            _warned = True
            warnings.warn(
                f"this video plays {how} {name_of(env)}: fps={float(fps):g} and skip={skip}, and the env makes "
                f"{float(1 / seconds):g} steps a second; fps='env' plays in real time",
                VidrecWarning,
                stacklevel=2,
            )
            return


def name_of(env: EnvBase) -> str:
    """Return what to call an environment: the id that Gymnasium knows it by, or the name of its class."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    for layer in _layers(env):
        if isinstance(name := _own(_own(layer, "spec"), "id"), str):
            return name
    return type(env).__name__


def _seconds(parts: Iterable[Any]) -> Fraction | None:
    """Return how long a step takes by transforms, and the environment behind them."""
    skips, seconds = 1, None
    for part in parts:
        if isinstance(part, FrameSkipTransform):
            skips *= part.frame_skip
        elif isinstance(part, ParallelEnv):
            seconds = _ask(part)
        elif isinstance(part, EnvBase) and not isinstance(part, SerialEnv):  # one that is not started has no envs
            layers = list(_layers(part))
            for layer in layers[1:-1]:  # what the innermost one skips is in its own seconds
                skips *= next((skip for name in SKIPS if (skip := _count(vars(layer).get(name)))), 1)
            skips *= _count(vars(part).get("wrapper_frame_skip")) or 1
            seconds = _of_layers(layers)
    return None if seconds is None else skips * seconds


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment, what it wraps, and so on."""
    seen: set[int] = set()
    while hasattr(env, "__dict__") and id(env) not in seen:
        yield env
        seen.add(id(env))
        env = next((vars(env)[name] for name in INNER if vars(env).get(name) is not None), None)
        if isinstance(env, list | tuple):
            env = env[0] if env else None


def _of_layers(layers: list[Any]) -> Fraction | None:
    """Return how long a step of the innermost of these environments takes."""
    inner = layers[-1]
    config, backend = _own(inner, "config"), _own(inner, "_backend")
    if isinstance(config, Mapping) and (seconds := _inverse(config.get("policy_frequency"))):
        return seconds
    if _own(_own(_own(inner, "model"), "opt"), "timestep") is not None and (seconds := _number(_own(inner, "dt"))):
        return seconds
    if _own(inner, "ale") is not None and (frames := _frames(_own(inner, "_frameskip"))):
        return frames / ALE_FPS
    if _own(inner, "control_timestep") is not None and (seconds := _number(_call(inner.control_timestep))):
        return seconds
    if seconds := _number(_own(_own(inner, "world"), "dt")):
        return seconds
    if (timestep := _number(_own(backend, "timestep"))) and (skip := _count(_own(inner, "frame_skip"))):
        return skip * timestep
    for layer in layers:
        metadata = _own(layer, "metadata")
        if isinstance(metadata, Mapping) and (seconds := _inverse(metadata.get("render_fps"))):
            return seconds
    for name in ("step_dt", "dt"):
        for layer in reversed(layers):
            if seconds := _number(_own(layer, name)):
                return seconds
    return None


def _own(owner: Any, name: str) -> Any:
    """Return an attribute that an object or its class has; None if it has none, or cannot tell.

    One that would be forwarded is not asked for: to whom, and at what cost, is not known.
    """
    if hasattr(type(owner), name) or name in getattr(owner, "__dict__", ()):
        return _call(lambda: getattr(owner, name))
    return None


def _call(function: Any) -> Any:
    try:
        return function()
    except Exception:
        return None


def _number(value: Any) -> Fraction | None:
    """Return a positive number as a fraction, 0.1 as 1/10; None for all that is none."""
    value = _call(value.item) if hasattr(value, "item") else value  # of numpy, of torch
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    fraction: Fraction | None = _call(lambda: Fraction(value).limit_denominator(10**6))  # type: ignore[call-overload]
    return fraction if fraction is not None and fraction > 0 else None  # NaN and infinity are none


def _inverse(rate: Any) -> Fraction | None:
    return None if (number := _number(rate)) is None else 1 / number


def _count(value: Any) -> int:
    """Return a positive whole number; 0 for all that is none."""
    return max(0, int(value)) if isinstance(value, Integral) and not isinstance(value, bool) else 0


def _frames(skip: Any) -> Fraction | None:
    """Return how many frames of a game a step takes, on average if ``(low, high)`` is drawn from, without `high`."""
    if isinstance(skip, tuple) and len(skip) == 2 and all(map(_count, skip)):
        return Fraction(skip[0] + skip[1] - 1, 2)
    return _number(_count(skip))


# A worker of `ParallelEnv` ends when it is asked for an attribute that its env has not. So it is asked for one that
# every env has, `training`. Beside it stands what TorchRL ignores for an attribute: an object that looks for the env
# while it is unpickled, and writes the answer into a file.


class _Question:
    def __init__(self, answer: Path) -> None:
        self.answer = answer

    def __reduce__(self) -> tuple[Any, ...]:
        return _answer, (self.answer,)


def _ask(env: ParallelEnv) -> Fraction | None:
    """Return how long a step of the first worker's env takes; the workers wait for a command meanwhile."""
    channels, workers = vars(env).get("parent_channels"), vars(env).get("_workers")
    if not channels or not workers or env.is_closed:
        return None
    with TemporaryDirectory(prefix="vidrec-") as folder:
        answer = Path(folder, "seconds")
        try:
            channels[0].send(("training", _Question(answer)))
            while not channels[0].poll(ANSWER_S):
                if not workers[0].is_alive():
                    return None
            channels[0].recv()
            return Fraction(answer.read_text())
        except (OSError, EOFError, ValueError):
            return None


def _answer(answer: Path) -> None:
    """Write how long a step takes of the env for which TorchRL's loop in a worker is reading a command, if known."""
    frame = sys._getframe(1)
    while frame is not None:
        env = frame.f_locals.get("env")
        if isinstance(env, EnvBase):
            seconds = _call(lambda: _seconds(parts_below(env)))  # noqa: B023 - called at once
            _call(lambda: None if seconds is None else answer.write_text(str(seconds)))  # noqa: B023
            return
        frame = frame.f_back  # type: ignore[assignment]
