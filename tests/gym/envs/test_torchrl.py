"""TorchRL's wrapper of the native vector environment."""

import gymnasium as gym
import numpy as np
import pytest

import crystal_gym  # noqa: F401 - registers the environments

pytest.importorskip("torchrl")

N_ENVS = 4


def rollout_of(env_id, mode, *, infos):
    from torchrl.envs import GymWrapper, check_env_specs

    env = GymWrapper(gym.make_vec(env_id, num_envs=N_ENVS, autoreset_mode=mode))
    env = env.auto_register_info_dict() if infos else env
    check_env_specs(env)
    env.set_seed(0)
    return env.rollout(15, break_when_any_done=False)


@pytest.mark.parametrize("infos", [False, True])
def test_terminal_dict_observations_and_infos_in_mode_disabled(infos):
    rollout = rollout_of("CrystalSkeleton-v0", "Disabled", infos=infos)
    ended = rollout["next", "done"][..., 0].numpy()
    assert ended[:, 4::5].all()
    assert ended.sum() == 3 * N_ENVS
    # After action a, the site in focus has element a + 1, also after the last action.
    actions = rollout["action"].argmax(-1).numpy()
    sites = rollout["focus"].argmax(-1).numpy()
    elements = rollout["next", "element"].numpy()
    filled = np.take_along_axis(elements, sites[..., None], axis=-1)[..., 0]
    np.testing.assert_array_equal(filled, actions + 1)
    assert (elements[ended] > 0).all()
    assert (rollout["element"].numpy()[:, ::5] == 0).all()
    if infos:
        returns = rollout["next", "reward"].reshape(N_ENVS, 3, 5).sum(-1)
        np.testing.assert_allclose(rollout["next", "match"][:, 4::5], returns, atol=1e-6)


@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
def test_terminal_flat_observations(mode):
    rollout = rollout_of("CrystalSkeletonFlat-v0", mode, infos=False)
    ended = rollout["next", "done"][..., 0].numpy()
    last = rollout["next", "observation"].numpy()[ended]
    # The one-hot codes of the five sites: none is empty in a finished crystal.
    codes = last[:, : 5 * 66].reshape(-1, 5, 66)
    assert (codes.sum(-1) == 1).all()
    assert (codes[..., 0] == 0).all()


def test_gym_env_leaves_out_its_own_argument():
    from torchrl.envs import GymEnv, check_env_specs

    check_env_specs(GymEnv("CrystalSkeleton-v0"))
