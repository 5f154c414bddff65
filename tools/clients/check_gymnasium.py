"""Check the environment with Gymnasium's own checker, vector environments and wrappers."""

import warnings

import gymnasium as gym
import numpy as np
from common import ENV_ID, FLAT_ID, SEED, Check, PlainEpisodes, expect, run
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import TimeAwareObservation
from gymnasium.wrappers import vector as vector_wrappers

N_ENVS, N_STEPS = 3, 40


def checker() -> str:
    """Run Gymnasium's checker on both ids; no warning is allowed."""
    for env_id in (ENV_ID, FLAT_ID):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # The window of the render mode "human" needs a display.
            check_env(gym.make(env_id, render_mode="rgb_array").unwrapped, skip_render_check=True)
    return "Dict and flat observations, without a warning"


def equal_copies() -> None:
    """Two copies with the same seed are equal in Gymnasium's comparison, infos included."""
    check_environments_match(gym.make(ENV_ID), gym.make(ENV_ID), num_steps=100, seed=SEED)


def _compare(envs: VectorEnv, mode: AutoresetMode) -> int:
    """Compare all episodes of a vector environment with the plain one; return their number."""
    observations, infos = envs.reset(seed=SEED)
    envs.action_space.seed(SEED)
    plain = PlainEpisodes()
    starts = [_start(infos, i) for i in range(envs.num_envs)]
    firsts = [_row(observations, i) for i in range(envs.num_envs)]
    actions: list[list[int]] = [[] for _ in range(envs.num_envs)]
    rewards: list[list[float]] = [[] for _ in range(envs.num_envs)]
    ended, count = np.zeros(envs.num_envs, bool), 0
    for _ in range(N_STEPS):
        chosen = envs.action_space.sample()
        observations, reward, terminated, _, infos = envs.step(chosen)
        # In this mode, the step after the end of an episode only starts the next one.
        restarted = ended if mode == AutoresetMode.NEXT_STEP else terminated
        for i in range(envs.num_envs):
            if mode == AutoresetMode.NEXT_STEP and ended[i]:
                expect(reward[i] == 0, "the restart has a reward")
                continue
            actions[i].append(int(chosen[i]))
            rewards[i].append(float(reward[i]))
            if terminated[i]:
                same = mode == AutoresetMode.SAME_STEP
                last = infos["final_obs"][i] if same else _row(observations, i)
                plain.compare(actions[i], rewards[i], firsts[i], last, **starts[i])
                actions[i], rewards[i] = [], []
                count += 1
        if mode == AutoresetMode.DISABLED and terminated.any():
            observations, infos = envs.reset(options={"reset_mask": terminated})
        for i in np.flatnonzero(restarted):
            starts[i], firsts[i] = _start(infos, i), _row(observations, i)
        ended = terminated
    envs.close()
    expect(count >= N_ENVS * N_STEPS // 7, f"only {count} episodes ended")
    return count


def _start(infos: dict, i: int) -> dict[str, int]:
    return {"crystal": int(infos["crystal"][i]), "start_site": int(infos["start_site"][i])}


def _row(observations: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: values[i].copy() for name, values in observations.items()}


def vector_environments() -> str:
    """Compare native, Sync and Async vectors in three modes with the plain environment."""
    count = 0
    for mode in AutoresetMode:
        native = gym.make_vec(ENV_ID, num_envs=N_ENVS, autoreset_mode=mode)
        count += _compare(native, mode)
        for kind in ("sync", "async"):
            envs = gym.make_vec(
                ENV_ID, N_ENVS, vectorization_mode=kind, vector_kwargs={"autoreset_mode": mode}
            )
            count += _compare(envs, mode)
    return f"rewards and terminal observations of {count} episodes equal the plain environment"


def observation_wrappers() -> None:
    """Gymnasium's wrappers transform the observations of the native vector environment."""
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        plain, doubled, cast = (
            gym.make_vec(FLAT_ID, num_envs=N_ENVS, autoreset_mode=mode) for _ in range(3)
        )
        doubled = vector_wrappers.TransformObservation(doubled, lambda batch: 2 * batch)
        cast = vector_wrappers.DtypeObservation(cast, np.float64)
        for envs in (plain, doubled, cast):
            envs.reset(seed=SEED)
        for _ in range(5):
            actions = plain.action_space.sample()
            expected = plain.step(actions)[0]
            np.testing.assert_array_equal(doubled.step(actions)[0], 2 * expected)
            np.testing.assert_array_equal(cast.step(actions)[0], expected)


def stateful_wrappers() -> None:
    """Normalize observations, and compare recorded returns with the fractions of matches."""
    envs = vector_wrappers.RecordEpisodeStatistics(
        vector_wrappers.NormalizeObservation(gym.make_vec(FLAT_ID, num_envs=N_ENVS))
    )
    envs.reset(seed=SEED)
    for _ in range(5):
        observations, _, terminated, _, infos = envs.step(envs.action_space.sample())
    expect(np.isfinite(observations).all(), "normalized observations are not finite")
    expect(terminated.all(), "not all episodes ended after five steps")
    np.testing.assert_allclose(infos["episode"]["r"], infos["match"], atol=1e-6)


def time_limit() -> None:
    """Truncate episodes at a limit, and observe the time."""
    env = TimeAwareObservation(gym.make(ENV_ID, max_episode_steps=3))
    env.reset(seed=SEED)
    ends = [env.step(0)[2:4] for _ in range(3)]
    expect(ends == [(False, False)] * 2 + [(False, True)], f"ends of the steps: {ends}")


run(
    "gymnasium",
    [
        Check("`check_env`", checker),
        Check("`check_environments_match`", equal_copies),
        Check(
            "native, `Sync-` and `AsyncVectorEnv` in all autoreset modes",
            vector_environments,
        ),
        Check(
            "vector `TransformObservation`, `DtypeObservation` (`NextStep`, `Disabled`)",
            observation_wrappers,
            "flat observations",
        ),
        Check(
            "vector `NormalizeObservation`, `RecordEpisodeStatistics` (`NextStep`)",
            stateful_wrappers,
            "flat observations",
        ),
        Check("`TimeAwareObservation`", time_limit, "`max_episode_steps`"),
    ],
)
