"""Check Minari: collect, read, replay, and its tutorial of behavioral cloning on flat datasets."""

import gymnasium as gym
import minari
import numpy as np
import torch
from common import ENV_ID, SEED, Check, PlainEpisodes, expect, run
from minari import DataCollector
from torch.utils.data import DataLoader

from crystal_datasets import build_dataset


def collect() -> str:
    """Collect random episodes with infos, and compare the dataset with the plain environment."""
    env = DataCollector(gym.make(ENV_ID), record_infos=True)
    env.action_space.seed(SEED)
    for episode in range(20):
        env.reset(seed=SEED if episode == 0 else None)
        ended = False
        while not ended:
            _, _, ended, _, _ = env.step(env.action_space.sample())
    dataset = env.create_dataset(dataset_id="crystals/random-v0", eval_env=None)
    plain = PlainEpisodes()
    for episode in minari.load_dataset("crystals/random-v0"):
        first, last = (
            {name: values[i] for name, values in episode.observations.items()} for i in (0, -1)
        )
        # Minari draws a seed for each episode.
        options = {name: int(episode.infos[name][0]) for name in ("crystal", "start_site")}
        plain.compare(episode.actions, episode.rewards, first, last, **options)
        expect((episode.infos["match"][:-1] == -1).all(), "a match before the end")
        np.testing.assert_allclose(episode.infos["match"][-1], episode.rewards.sum(), atol=1e-6)
    return f"{dataset.total_episodes} random episodes, infos included, equal the plain environment"


def replay() -> str:
    """Replay expert episodes in the environment that the dataset restores."""
    dataset = minari.load_dataset(build_dataset("goldschmidt", "val"))
    env = dataset.recover_environment()
    plain = PlainEpisodes()
    indices = range(0, dataset.total_episodes, 50)
    for episode, metadata in zip(
        dataset.iterate_episodes(indices),
        dataset.storage.get_episode_metadata(indices),
        strict=True,
    ):
        options = {name: metadata[name] for name in ("crystal", "start_site")}
        env.reset(options=options)
        rewards = [env.step(action)[1] for action in episode.actions]
        np.testing.assert_allclose(rewards, episode.rewards, atol=1e-6)
        last = {name: values[-1] for name, values in episode.observations.items()}
        first = {name: values[0] for name, values in episode.observations.items()}
        plain.compare(episode.actions, episode.rewards, first, last, **options)
    return f"{len(indices)} expert episodes equal the plain environment"


class _Network(torch.nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            torch.nn.Linear(inputs, 256),
            torch.nn.ReLU(),
            torch.nn.Linear(256, 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, outputs),
        )


def _pad(episodes: list[minari.EpisodeData]) -> dict[str, torch.Tensor]:
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [torch.as_tensor(getattr(episode, name)) for episode in episodes], batch_first=True
        )
        for name in ("observations", "actions")
    }


def clone() -> str:
    """Follow the steps of Minari's tutorial with a flat dataset."""
    torch.manual_seed(SEED)
    dataset = minari.load_dataset(build_dataset("goldschmidt", "val", observations="flat"))
    loader = DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=_pad)
    env = dataset.recover_environment()
    expect(isinstance(env.observation_space, gym.spaces.Box), "observations are not a Box")
    network = _Network(int(np.prod(env.observation_space.shape)), int(env.action_space.n))
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(5):
        for batch in loader:
            logits = network(batch["observations"][:, :-1])
            target = torch.nn.functional.one_hot(batch["actions"], env.action_space.n)
            loss = torch.nn.functional.cross_entropy(logits.mT, target.float().mT)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    returns = []
    for episode in range(100):
        observation, _ = env.reset(seed=SEED if episode == 0 else None)
        ended, total = False, 0.0
        while not ended:
            with torch.no_grad():
                action = network(torch.as_tensor(observation)).argmax()
            observation, reward, ended, _, _ = env.step(action.numpy())
            total += reward
        returns.append(total)
    expect(np.mean(returns) > 0.25, f"mean return {np.mean(returns):.2f}")
    return f"mean return {np.mean(returns):.2f} after 5 epochs (random: 0.02)"


run(
    "minari",
    [
        Check("`DataCollector(record_infos=True)`, `create_dataset`", collect, "`minari[create]`"),
        Check("`load_dataset`, `recover_environment`", replay),
        Check("the tutorial on behavioral cloning", clone, "a flat dataset, two lines"),
    ],
)
