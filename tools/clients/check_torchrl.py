"""Check TorchRL, and the reproductions and workarounds of its defects."""

import gymnasium as gym
import minari
import numpy as np
import torch
from common import ENV_ID, FLAT_ID, SEED, Check, PlainEpisodes, expect, run, split_episodes
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, GymEnv, GymWrapper, ParallelEnv, check_env_specs
from upstream import confirm

import crystal_gym  # noqa: F401 - TorchRL finds only registered environments
from crystal_datasets import build_dataset
from crystal_datasets.torchrl_loader import load_minari_replay

N_ENVS, N_STEPS = 3, 30
KEYS = ("element", "frac_coords", "lattice", "edges", "focus")


def _compare(rollout: TensorDictBase, plain: PlainEpisodes, *, flat: bool = False) -> int:
    """Compare the episodes of one environment with the plain one; return their number.

    Args:
        rollout: A roll-out, (T,); if it has infos, they name the crystal and the start site.
        plain: The plain environment.
        flat: Whether observations are flat.
    """
    episodes = split_episodes(rollout["next", "done"][:, 0].numpy())
    for steps in episodes:
        part = rollout[steps]
        options = {
            name: int(part["next", name][0])
            for name in ("crystal", "start_site")
            if name in set(part["next"].keys())
        }
        first, last = (
            td["observation"].numpy()
            if flat
            else {
                # Discrete values are one-hot in TorchRL.
                name: td[name].argmax(-1).numpy() if name == "focus" else td[name].numpy()
                for name in KEYS
            }
            for td in (part[0], part["next"][-1])
        )
        actions = part["action"].argmax(-1).tolist()
        plain.compare(actions, part["next", "reward"][:, 0].tolist(), first, last, **options)
    return len(episodes)


def single() -> str:
    """Compare GymEnv and ParallelEnv with the plain environment."""
    env = GymEnv("CrystalSkeleton-v0")
    check_env_specs(env)
    env.set_seed(SEED)
    plain = PlainEpisodes()
    plain.skip()  # TorchRL resets once to seed and once to start
    count = _compare(env.rollout(N_STEPS, break_when_any_done=False), plain)
    parallel = ParallelEnv(2, lambda: GymEnv("CrystalSkeleton-v0").auto_register_info_dict())
    rollout = parallel.rollout(N_STEPS, break_when_any_done=False)
    count += sum(_compare(rollout[i], PlainEpisodes()) for i in range(2))
    parallel.close()
    return f"{count} random episodes equal the plain environment"


def infos() -> str:
    """Read the infos of a single environment."""
    env = GymEnv("CrystalSkeleton-v0").auto_register_info_dict()
    env.set_seed(SEED)
    rollout = env.rollout(N_STEPS, break_when_any_done=False)
    last = rollout["next", "done"][:, 0]
    matches = rollout["next", "match"]
    returns = rollout["next", "reward"].reshape(-1, 5).sum(1)
    torch.testing.assert_close(matches[last].flatten().float(), returns)
    count = _compare(rollout, PlainEpisodes())
    return f"infos of {count} episodes name the crystal and the fraction of matches"


def _native(env: EnvBase, *, flat: bool) -> int:
    check_env_specs(env)
    env.set_seed(SEED)
    rollout = env.rollout(N_STEPS, break_when_any_done=False)
    env_id = FLAT_ID if flat else ENV_ID
    count = sum(
        _compare(rollout[i], PlainEpisodes(env_id=env_id), flat=flat) for i in range(N_ENVS)
    )
    expect(count == N_ENVS * N_STEPS // 5, f"{count} episodes")
    return count


def native() -> str:
    """Compare the native vector environment in mode Disabled, with infos, with the plain one."""
    envs = gym.make_vec(ENV_ID, num_envs=N_ENVS, autoreset_mode="Disabled")
    count = _native(GymWrapper(envs).auto_register_info_dict(), flat=False)
    return f"{count} random episodes equal the plain environment"


def native_flat() -> str:
    """Compare flat observations in both modes that TorchRL allows with the plain environment."""
    count = 0
    for mode in ("Disabled", "SameStep"):
        env = GymWrapper(gym.make_vec(FLAT_ID, num_envs=N_ENVS, autoreset_mode=mode))
        if mode == "Disabled":
            env = env.auto_register_info_dict()
        count += _native(env, flat=True)
    return f"{count} random episodes equal the plain environment"


def loader() -> str:
    """Compare the values of the replay buffer with the dataset."""
    name = build_dataset("goldschmidt", "val", trajectories=1)
    data = load_minari_replay(name, "torchrl")[:]
    rewards = np.concatenate([episode.rewards for episode in minari.load_dataset(name)])
    np.testing.assert_array_equal(data["next", "reward"][:, 0], rewards)
    expect(bool(rewards.any()), "all rewards are zero")
    return f"{len(rewards)} rewards equal the dataset"


if __name__ == "__main__":
    run(
        "torchrl",
        [
            Check("`GymEnv`, `ParallelEnv`", single),
            Check("`auto_register_info_dict`", infos),
            Check("`GymWrapper` of the native vector environment", native, "mode `Disabled`"),
            Check(
                "`GymWrapper` of the native vector environment in modes `Disabled` and `SameStep`",
                native_flat,
                "flat observations",
            ),
            Check("Minari datasets", loader, "`load_minari_replay`"),
            Check(
                "[`MinariExperienceReplay` returns zeros](upstream/torchrl-minari.md)",
                lambda: confirm("torchrl-minari"),
                defect=True,
            ),
            Check(
                "[terminal `Dict` observations are zeros in `SameStep`]"
                "(upstream/torchrl-terminal-observations.md)",
                lambda: confirm("torchrl-terminal-observations"),
                defect=True,
            ),
        ],
    )
