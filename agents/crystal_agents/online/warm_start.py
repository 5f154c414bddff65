"""One call from a cloned policy to a model of Stable-Baselines3 that acts as the policy does."""

import dataclasses
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

from crystal_agents.online.algorithms import (
    ALGORITHMS,
    Algorithm,
    get_algorithm,
    get_features_extractor,
)
from crystal_agents.online.features_extractor import SkeletonFeatures
from crystal_agents.online.vec_env import SkeletonVecEnv
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy, load_policy
from crystal_agents.training.seeding import check_seed
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import no_mask

# What Stable-Baselines3 learns in, or what can be made one.
SkeletonEnvs = VecEnv | VectorEnv | Env


def warm_start(
    policy: SkeletonPolicy | str | Path,
    algorithm: str,
    env: SkeletonEnvs,
    *,
    critic_warm_up: int | None = None,
    anchor: float | Schedule | None = None,
    seed: int | None = 0,
    **settings: Any,
) -> BaseAlgorithm:
    """A model of Stable-Baselines3 whose actor is this policy, weights and all.

    Until it learns, its greedy actions are the policy's, and those of actor-critics have the
    policy's probabilities. ``model.learn(steps)``, ``model.save(path)``, ``type(model).load(path)``
    and ``model.predict`` are Stable-Baselines3's own.

    Args:
        policy: a policy, or what ``crystal_agents.load_policy`` takes. It is copied.
        algorithm: a name of ``crystal_agents.online.algorithms.ALGORITHMS``: ``ppo``,
            ``maskable-ppo``, ``a2c`` or ``dqn``.
        env: ``CrystalSkeleton-v0``: the native vector environment with
            ``autoreset_mode="SameStep"`` (the fast way), a ``VecEnv`` of single ones, or one.
        critic_warm_up: steps of all environments in which only the critic learns; 0 begins with
            both (default: the algorithm's).
        anchor: coefficient of KL(policy ‖ cloned policy) in the loss, which falls linearly to 0
            over the training; or a function of the share of it that remains; 0 leaves it away
            (default: the algorithm's). DQN has none.
        seed: of Stable-Baselines3 and the environment.
        settings: keyword arguments of the algorithm in the place of its defaults here.

    Raises:
        UnknownNameError: no algorithm of this name.
        CrystalGymError: the algorithm does not fit the actions or the mask, the environment is
            another, its vocabulary or number of sites is not the policy's, or a number is none
            that can be.
    """
    chosen = get_algorithm(algorithm)
    source = policy if isinstance(policy, SkeletonPolicy) else load_policy(policy)
    warm_up = chosen.critic_warm_up if critic_warm_up is None else critic_warm_up
    strength = chosen.anchor if anchor is None else anchor
    anchored = callable(strength) or strength != 0
    if not callable(strength) and not 0 <= strength < np.inf:
        raise CrystalGymError(f"The anchor's coefficient is a number from 0, not {strength}.")
    if anchored and not chosen.can_be_anchored:
        raise CrystalGymError(
            f"{algorithm} has values instead of probabilities: nothing can anchor it. Leave the "
            "anchor away, or choose one of "
            f"{', '.join(name for name, one in ALGORITHMS.items() if one.can_be_anchored)}."
        )
    if warm_up < 0:
        raise CrystalGymError(f"critic_warm_up is a number of steps from 0, not {warm_up}.")
    model: Any = _make(
        chosen, algorithm, source.config, env, seed=seed, settings=settings, anchored=anchored
    )
    # That of the actor, and its copies: a target network, or what anchors it.
    for part in model.policy.modules():
        if isinstance(part, SkeletonFeatures):
            part.network.load_state_dict(source.state_dict())
    model.critic_warm_up = warm_up
    if anchored:
        model.anchor = strength if callable(strength) else LinearSchedule(strength, 0.0, 1.0)
    return model


def from_scratch(
    config: PolicyConfig | SkeletonPolicy | str | Path,
    algorithm: str,
    env: SkeletonEnvs,
    *,
    seed: int | None = 0,
    **settings: Any,
) -> BaseAlgorithm:
    """The same model with random weights: what a warm start is held against.

    The critic's gradients go into the encoder, for there is nothing in it to be spared.

    Args:
        config: of the network, or a policy whose network is meant.
        algorithm: see ``warm_start``.
        env: see ``warm_start``.
        seed: of the weights, Stable-Baselines3 and the environment.
        settings: keyword arguments of the algorithm in the place of its defaults here.

    Raises:
        CrystalGymError: as ``warm_start``.
    """
    if not isinstance(config, PolicyConfig | SkeletonPolicy):
        config = load_policy(config)
    if isinstance(config, SkeletonPolicy):
        config = config.config
    chosen = get_algorithm(algorithm)
    config = dataclasses.replace(config, training={})
    settings = {**chosen.from_scratch, **settings}
    return _make(
        chosen, algorithm, config, env, seed=seed, settings=settings, critic_shapes_encoder=True
    )


def extract_policy(model: BaseAlgorithm, **training: Any) -> SkeletonPolicy:
    """The actor of a model, as a policy that can be saved, loaded and evaluated.

    Of DQN, its probabilities are no more than an order of the elements.

    Args:
        model: of ``warm_start`` or ``from_scratch``, or loaded from its file.
        training: how it learned; appended to ``finetuning`` of the policy's own record. With
            ``collection`` and ``split_by`` commands know which crystals it has seen.
    """
    network = get_features_extractor(model.policy).network
    record = dict(network.config.training)
    if training:
        record["finetuning"] = [*record.get("finetuning", []), training]
    policy = SkeletonPolicy(dataclasses.replace(network.config, training=record))
    policy.load_state_dict(network.state_dict())
    return policy.eval()


def _make(
    chosen: Algorithm,
    name: str,
    config: PolicyConfig,
    env: SkeletonEnvs,
    *,
    seed: int | None,
    settings: dict[str, Any],
    critic_shapes_encoder: bool = False,
    anchored: bool = False,
) -> BaseAlgorithm:
    if seed is not None:
        check_seed(seed)
    rate = settings.get("learning_rate", 1.0)
    if not callable(rate) and not 0 < rate < np.inf:
        raise CrystalGymError(f"The learning rate is a number above 0, not {rate}.")
    envs = as_vec_env(env)
    table = _table(envs)
    if not chosen.masks and envs.get_attr("mask")[0] is not no_mask:
        raise CrystalGymError(
            f"{name} does not heed the environment's mask: take maskable-ppo, or an environment "
            'with mask="none".'
        )
    SkeletonPolicy(config).require(table.vocabulary, table.max_sites)
    networks: dict[str, Any] = {
        "features_extractor_class": SkeletonFeatures,
        "features_extractor_kwargs": {
            "config": dataclasses.asdict(config),
            "critic_shapes_encoder": critic_shapes_encoder,
        },
    }
    if anchored:
        networks["anchored"] = True
    arguments = {
        **chosen.settings,
        **chosen.sizes(envs.num_envs, table.max_sites),
        "device": "cpu",
        **settings,
    }
    networks |= arguments.pop("policy_kwargs", {})
    return chosen.model(chosen.policy, envs, seed=seed, policy_kwargs=networks, **arguments)


def as_vec_env(env: SkeletonEnvs) -> VecEnv:
    """What Stable-Baselines3 learns in.

    Raises:
        CrystalGymError: it is no ``CrystalSkeleton-v0``.
    """
    if isinstance(env, VecEnv):
        return env
    if isinstance(env, VectorEnv):
        return SkeletonVecEnv(env)
    return DummyVecEnv([lambda: Monitor(env)])


def _table(envs: VecEnv) -> EpisodeTable:
    try:
        table = envs.get_attr("table")[0]
    except AttributeError:
        table = None
    if not isinstance(table, EpisodeTable):
        raise CrystalGymError(
            "These agents fill crystal skeletons: the environment must be CrystalSkeleton-v0, not "
            f"one with observations {envs.observation_space} and actions {envs.action_space}."
        )
    return table
