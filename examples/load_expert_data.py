"""Load an expert dataset with Minari and replay an episode in its environment.

    python examples/load_expert_data.py

The dataset of the embedded collection is built on the first run.
"""

import minari

from crystal_datasets import build_dataset, dataset_id, load_transitions

name = dataset_id("goldschmidt", "val")
if name not in minari.list_local_datasets():
    build_dataset("goldschmidt", "val")

# Episodes, as in any Minari dataset.
dataset = minari.load_dataset(name)
print(f"{name}: {dataset.total_episodes} episodes, {dataset.total_steps} steps")
for episode in dataset.sample_episodes(3):
    print(f"episode {episode.id}: actions {episode.actions}, return {episode.rewards.sum():.2f}")

# The environment of the dataset replays the same episode.
env = dataset.recover_environment()
metadata = next(iter(dataset.storage.get_episode_metadata([7])))
env.reset(options={"crystal": metadata["crystal"], "start_site": metadata["start_site"]})
rewards = [float(env.step(action)[1]) for action in dataset[7].actions]
print(f"{metadata['crystal']} from site {metadata['start_site']}: return {sum(rewards):.2f}")

# Flat arrays for training, here with one trajectory for each crystal.
transitions = load_transitions(name, trajectories=1)
print(transitions)
