"""Models of Stable-Baselines3 that initially act as a cloned policy, or start from scratch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from crystal_agents.online.algorithms import ALGORITHMS, Algorithm, get_algorithm
from crystal_agents.online.critic_warm_up import get_features_extractor
from crystal_agents.online.features_extractor import SkeletonFeatures
from crystal_agents.online.vec_env import SkeletonVecEnv
from crystal_agents.policies.config import PolicyConfig
from crystal_agents.policies.fixed_target import fix_target
from crystal_agents.policies.policy import SkeletonPolicy, load_policy
from crystal_agents.policies.site_numbers import site_positions_record
from crystal_agents.training.seeding import check_seed
from crystal_agents.training.training_stages import FINGERPRINT
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import no_mask

# Environments of Stable-Baselines3, and those that `as_vec_env` converts.
SkeletonEnvs = VecEnv | VectorEnv | Env


def warm_start(
    policy: SkeletonPolicy | str | Path,
    algorithm: str,
    env: SkeletonEnvs,
    *,
    target: Mapping[str, float] | None = None,
    critic_warm_up: int | None = None,
    anchor: float | Schedule | None = None,
    frozen_geometry: bool = True,
    seed: int | None = 0,
    **settings: Any,
) -> BaseAlgorithm:
    """Create a model of Stable-Baselines3 whose actor has the weights of a policy.

    Before training, its greedy actions are those of the policy, and actor-critics have the
    policy's probabilities. ``model.learn(steps)``, ``model.save(path)``, ``type(model).load(path)``
    and ``model.predict`` are methods of Stable-Baselines3.

    Args:
        policy: A policy, or its name or folder as for ``crystal_agents.load_policy``. It is copied.
        algorithm: A name in ``crystal_agents.online.algorithms.ALGORITHMS``: ``ppo``,
            ``maskable-ppo``, ``a2c`` or ``dqn``.
        env: ``CrystalSkeleton-v0``: the native vector environment with
            ``autoreset_mode="SameStep"`` (fastest), a ``VecEnv`` of single environments, or a
            single environment.
        target: Requested labels of a conditional policy, such as ``{"heat_all": -0.2}``, in all
            episodes; ``{}``: none. The model has an unconditional network, see ``fix_target``, and
            does not use the ``target`` of observations.
        critic_warm_up: Steps of all environments in which only the critic learns; 0: none
            (default: the algorithm's).
        anchor: Coefficient of KL(policy ‖ cloned policy) in the loss, which decreases linearly to 0
            over the training, or a function of the remaining fraction of the training; 0: no KL
            term (default: the algorithm's). DQN has none.
        frozen_geometry: Do not train the weights that only the geometry of the empty skeleton
            depends on, most of those of ``egnn`` and ``mpnn``. Then each skeleton is encoded once.
        seed: Seed of Stable-Baselines3 and the environment.
        settings: Keyword arguments of the algorithm that replace its defaults.

    Raises:
        UnknownNameError: If no algorithm has this name.
        BadCrystalError: If the network receives site numbers, and the sites of the environment's
            crystals are not numbered as in the training crystals.
        CrystalGymError: If the algorithm does not support the actions, the mask or the anchor, a
            conditional policy has no target or another one has one, a target is invalid, the
            environment is not ``CrystalSkeleton-v0``, its vocabulary or number of sites does not
            fit the policy, or a number is out of range.
    """
    chosen = get_algorithm(algorithm)
    initial = policy if isinstance(policy, SkeletonPolicy) else load_policy(policy)
    initial = _request(initial, target)
    warm_up = chosen.critic_warm_up if critic_warm_up is None else critic_warm_up
    if warm_up < 0:
        raise CrystalGymError(
            f"Expected critic_warm_up to be 0 or a positive number of steps, got {warm_up}. Change "
            "critic_warm_up."
        )
    schedule = _anchor_schedule(chosen, algorithm, anchor)
    model: Any = _create_model(
        chosen,
        algorithm,
        initial.config,
        env,
        seed=seed,
        settings=settings,
        anchored=schedule is not None,
        frozen_geometry=frozen_geometry,
    )
    # The actor, and its copies in a target network or as the reference of the anchor.
    for module in model.policy.modules():
        if isinstance(module, SkeletonFeatures):
            module.network.load_state_dict(initial.state_dict())
    model.critic_warm_up = warm_up
    if schedule is not None:
        model.anchor = schedule
    return model


def from_scratch(
    config: PolicyConfig | SkeletonPolicy | str | Path,
    algorithm: str,
    env: SkeletonEnvs,
    *,
    seed: int | None = 0,
    **settings: Any,
) -> BaseAlgorithm:
    """Create the same model with random weights, as the control of a warm start.

    The critic's gradients reach the encoder, because it is not pretrained.

    Args:
        config: Configuration of the network, or a policy with the same network.
        algorithm: See ``warm_start``.
        env: See ``warm_start``.
        seed: Seed of the weights, Stable-Baselines3 and the environment.
        settings: Keyword arguments of the algorithm that replace its defaults.

    Raises:
        UnknownNameError: See ``warm_start``.
        CrystalGymError: See ``warm_start``.
    """
    if not isinstance(config, PolicyConfig | SkeletonPolicy):
        config = load_policy(config)
    if isinstance(config, SkeletonPolicy):
        config = config.config
    chosen = get_algorithm(algorithm)
    env = as_vec_env(env)
    table = _episode_table(env)
    positions = site_positions_record(table.n_sites, table.frac_coords)
    config = dataclasses.replace(config, training={}, site_positions=positions, targets=None)
    settings = {**chosen.from_scratch, **settings}
    return _create_model(
        chosen, algorithm, config, env, seed=seed, settings=settings, critic_shapes_encoder=True
    )


def extract_policy(model: BaseAlgorithm, **training: Any) -> SkeletonPolicy:
    """Return the actor of a model as a policy that can be saved, loaded and evaluated.

    The probabilities of a policy from DQN only rank the elements.

    Args:
        model: A model of ``warm_start`` or ``from_scratch``, also after loading it from a file.
        training: Record of the training, appended to ``finetuning`` in the policy's training
            record. The command line reads ``collection``, ``split_by`` and ``collection_sha256``
            from it to determine the crystals that the policy was trained on. The last item, their
            fingerprint, is added if the model has an environment.
    """
    network = get_features_extractor(model.policy).network
    record = dict(network.config.training)
    if training:
        stage = {**fingerprint_of(model), **training}
        record["finetuning"] = [*record.get("finetuning", []), stage]
    policy = SkeletonPolicy(dataclasses.replace(network.config, training=record))
    policy.load_state_dict(network.state_dict())
    return policy.eval()


def fingerprint_of(model: BaseAlgorithm) -> dict[str, str]:
    """Return the item of a training record with the fingerprint of the model's crystals.

    It is empty if the model has no environment, such as after loading it from a file.
    """
    envs = model.get_env()
    return {} if envs is None else {FINGERPRINT: _episode_table(envs).collection.fingerprint()}


def as_vec_env(env: SkeletonEnvs) -> VecEnv:
    """Convert an environment to the interface of Stable-Baselines3.

    Raises:
        CrystalGymError: If a vector environment is not ``CrystalSkeleton-v0``.
    """
    if isinstance(env, VecEnv):
        return env
    if isinstance(env, VectorEnv):
        return SkeletonVecEnv(env)
    return DummyVecEnv([lambda: Monitor(env)])


def _request(policy: SkeletonPolicy, target: Mapping[str, float] | None) -> SkeletonPolicy:
    """Return the unconditional policy for a target."""
    if target is not None:
        return fix_target(policy, target)
    if policy.targets is not None:
        raise CrystalGymError(
            "Expected a target for a conditional policy, got none. Pass the requested labels, such "
            f"as target={{{policy.targets.names[0]!r}: {policy.targets.low[0]:.3g}}} "
            f"(--target {policy.targets.names[0]}={policy.targets.low[0]:.3g}), or target={{}} for "
            "the policy without a request."
        )
    return policy


def _anchor_schedule(
    chosen: Algorithm, name: str, anchor: float | Schedule | None
) -> Schedule | None:
    """Return the coefficient of the anchor over the training, or ``None`` for no anchor."""
    strength = chosen.anchor if anchor is None else anchor
    if not callable(strength):
        if not 0 <= strength < np.inf:
            raise CrystalGymError(
                f"Expected the anchor's coefficient to be 0 or positive, got {strength}. Change "
                "anchor."
            )
        if strength == 0:
            return None
    if not chosen.supports_anchor:
        supported = [key for key, value in ALGORITHMS.items() if value.supports_anchor]
        raise CrystalGymError(
            f"Expected an algorithm with action probabilities for the anchor, got {name}. Leave "
            f"the anchor out, or choose one of {', '.join(supported)}."
        )
    return strength if callable(strength) else LinearSchedule(strength, 0.0, 1.0)


def _create_model(
    chosen: Algorithm,
    name: str,
    config: PolicyConfig,
    env: SkeletonEnvs,
    *,
    seed: int | None,
    settings: dict[str, Any],
    critic_shapes_encoder: bool = False,
    anchored: bool = False,
    frozen_geometry: bool = False,
) -> BaseAlgorithm:
    if seed is not None:
        check_seed(seed)
    rate = settings.get("learning_rate", 1.0)
    if not callable(rate) and not 0 < rate < np.inf:
        raise CrystalGymError(
            f"Expected a positive learning rate, got {rate}. Change learning_rate."
        )
    envs = as_vec_env(env)
    table = _episode_table(envs)
    if not chosen.supports_masks and envs.get_attr("mask")[0] is not no_mask:
        raise CrystalGymError(
            f"Expected an algorithm that respects the environment's mask, got {name}. Choose "
            'maskable-ppo, or an environment with mask="none".'
        )
    network = SkeletonPolicy(config).require(table.vocabulary, table.max_sites)
    if network.site_positions is not None:
        network.site_positions.check(table.n_sites, table.frac_coords)
    policy_settings: dict[str, Any] = {
        "features_extractor_class": SkeletonFeatures,
        "features_extractor_kwargs": {
            "config": dataclasses.asdict(config),
            "critic_shapes_encoder": critic_shapes_encoder,
            "frozen_geometry": frozen_geometry,
        },
    }
    if anchored:
        policy_settings["anchored"] = True
    arguments = {
        **chosen.settings,
        # Only training from scratch lets the critic change the encoder.
        **chosen.rollout_settings(
            envs.num_envs, table.max_sites, from_scratch=critic_shapes_encoder
        ),
        "device": "cpu",
        **settings,
    }
    policy_settings |= arguments.pop("policy_kwargs", {})
    return chosen.model(chosen.policy, envs, seed=seed, policy_kwargs=policy_settings, **arguments)


def _episode_table(envs: VecEnv) -> EpisodeTable:
    """Return the environments' table of crystals.

    Raises:
        CrystalGymError: If they are not ``CrystalSkeleton-v0``.
    """
    try:
        table = envs.get_attr("table")[0]
    except AttributeError:
        table = None
    if not isinstance(table, EpisodeTable):
        raise CrystalGymError(
            f"Expected CrystalSkeleton-v0, got an environment with observations "
            f"{envs.observation_space} and actions {envs.action_space}. Pass CrystalSkeleton-v0."
        )
    return table
