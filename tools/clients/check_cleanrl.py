"""Check scripts of CleanRL with one changed line each: the id of the environment.

::

    python check_cleanrl.py --cleanrl CHECKOUT
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from common import FLAT_ID, Check, PlainEpisodes, expect, run, split_episodes

parser = argparse.ArgumentParser(description="Check CleanRL.")
parser.add_argument("--cleanrl", type=Path, required=True, help="checkout of CleanRL")
CHECKOUT = parser.parse_args().cleanrl.resolve()
BEFORE = 'env_id: str = "CartPole-v1"'
AFTER = f'env_id: str = "{FLAT_ID}"'


class _Recorder(gym.vector.SyncVectorEnv):
    """Records the steps of the first environment."""

    steps: list[tuple[np.ndarray, int, float, bool, np.ndarray]]
    seed: int

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observations, infos = super().reset(seed=seed, options=options)
        _Recorder.steps, _Recorder.seed = [], seed
        self._last, self._over = observations[0].copy(), False
        return observations, infos

    def step(self, actions: np.ndarray) -> Any:
        result = super().step(actions)
        after = result[0][0].copy()
        if not self._over:
            row = (self._last, int(actions[0]), float(result[1][0]), bool(result[2][0]), after)
            _Recorder.steps.append(row)
        self._last, self._over = after, bool(result[2][0])
        return result


def script(name: str, *arguments: str) -> str:
    """Run a script with the changed line, and compare its episodes with the plain environment."""
    source = (CHECKOUT / "cleanrl" / f"{name}.py").read_text()
    expect(source.count(BEFORE) == 1, f"the line {BEFORE!r} is not in {name}.py")
    Path(f"{name}.py").write_text(source.replace(BEFORE, AFTER))
    original, sys.argv = sys.argv, [name, "--no-cuda", *arguments]
    gym.vector.SyncVectorEnv = _Recorder  # type: ignore[misc]
    sys.path.insert(0, str(CHECKOUT))  # for cleanrl_utils
    try:
        runpy.run_path(f"{name}.py", run_name="__main__")
    finally:
        sys.argv = original
        gym.vector.SyncVectorEnv = _Recorder.__base__  # type: ignore[misc]
        sys.path.remove(str(CHECKOUT))
    plain = PlainEpisodes(_Recorder.seed, env_id=FLAT_ID)
    before, actions, rewards, ended, after = zip(*_Recorder.steps, strict=True)
    episodes = split_episodes(np.array(ended))
    for steps in episodes:
        plain.compare(actions[steps], rewards[steps], before[steps][0], after[steps][-1])
    expect(len(episodes) > 20, f"{len(episodes)} episodes")
    return f"{len(episodes)} episodes equal the plain environment"


NEEDS = "one changed line: the id of the environment"
run(
    "cleanrl",
    [
        Check("`ppo.py`", lambda: script("ppo", "--total-timesteps", "2048"), NEEDS),
        Check(
            "`dqn.py`",
            lambda: script("dqn", "--total-timesteps", "1500", "--learning-starts", "500"),
            NEEDS,
        ),
        Check(
            "`c51.py`",
            lambda: script("c51", "--total-timesteps", "1500", "--learning-starts", "500"),
            NEEDS,
        ),
    ],
)
