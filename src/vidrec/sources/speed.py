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

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from torchrl.envs import EnvBase, ParallelEnv, SerialEnv
from torchrl.envs.transforms import FrameSkipTransform, Transform

from vidrec.errors import Once, SettingError
from vidrec.sources.chain import parts_before, parts_below
from vidrec.sources.simulator import attempt, layers_of, name_of, own
from vidrec.sources.workers import ask, can_be_asked

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

SKIPS = ("frame_skip", "_skip")
"""Where a wrapper has how many steps of what it wraps one of its own takes: AtariPreprocessing, MaxAndSkip."""

warn_once = Once()
"""Warns of the first speed in this process."""


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
    if warn_once.given or (seconds := seconds_per_step(env, recorder)) is None:
        return
    for fps in attempt(rates) or ():  # what it raises, the first frame will
        speed = fps * skip * seconds
        if not LIKE_REAL_TIME[0] <= speed <= LIKE_REAL_TIME[1]:
            how = f"{float(speed):.3g} times as fast as" if speed > 1 else f"at {float(speed):.3g} of the speed of"
            warn_once(
                f"this video plays {how} {name_of(env)}: fps={float(fps):g} and skip={skip}, and the env makes "
                f"{float(1 / seconds):g} steps a second; fps='env' plays in real time"
            )
            return


def _seconds(parts: Iterable[Any]) -> Fraction | None:
    """Return how long a step takes by transforms, and the environment behind them."""
    skips, seconds = 1, None
    for part in parts:
        if isinstance(part, FrameSkipTransform):
            skips *= part.frame_skip
        elif isinstance(part, ParallelEnv):
            seconds = _ask(part)
        elif isinstance(part, EnvBase) and not isinstance(part, SerialEnv):  # one that is not started has no envs
            layers = list(layers_of(part))
            for layer in layers[1:-1]:  # what the innermost one skips is in its own seconds
                skips *= next((skip for name in SKIPS if (skip := _count(vars(layer).get(name)))), 1)
            skips *= _count(vars(part).get("wrapper_frame_skip")) or 1
            seconds = _of_layers(layers)
    return None if seconds is None else skips * seconds


def _of_layers(layers: list[Any]) -> Fraction | None:
    """Return how long a step of the innermost of these environments takes."""
    inner = layers[-1]
    config, backend = own(inner, "config"), own(inner, "_backend")
    if isinstance(config, Mapping) and (seconds := _inverse(config.get("policy_frequency"))):
        return seconds
    if own(own(own(inner, "model"), "opt"), "timestep") is not None and (seconds := _number(own(inner, "dt"))):
        return seconds
    if own(inner, "ale") is not None and (frames := _frames(own(inner, "_frameskip"))):
        return frames / ALE_FPS
    if own(inner, "control_timestep") is not None and (seconds := _number(attempt(inner.control_timestep))):
        return seconds
    if seconds := _number(own(own(inner, "world"), "dt")):
        return seconds
    if (timestep := _number(own(backend, "timestep"))) and (skip := _count(own(inner, "frame_skip"))):
        return skip * timestep
    for layer in layers:
        metadata = own(layer, "metadata")
        if isinstance(metadata, Mapping) and (seconds := _inverse(metadata.get("render_fps"))):
            return seconds
    for name in ("step_dt", "dt"):
        for layer in reversed(layers):
            if seconds := _number(own(layer, name)):
                return seconds
    return None


def _number(value: Any) -> Fraction | None:
    """Return a positive number as a fraction, 0.1 as 1/10; None for all that is none."""
    value = attempt(value.item) if hasattr(value, "item") else value  # of numpy, of torch
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    fraction: Fraction | None = attempt(lambda: Fraction(value).limit_denominator(10**6))  # type: ignore[call-overload]
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


def _ask(env: ParallelEnv) -> Fraction | None:
    """Return how long a step of the first worker's env takes."""
    answers = attempt(lambda: ask(env, {0: _seconds_below})) if can_be_asked(env) else None
    return None if answers is None else answers[0]


def _seconds_below(env: EnvBase) -> Fraction | None:
    return _seconds(parts_below(env))
