"""Pictures of a policy at work."""

from pathlib import Path

import numpy as np

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.utils.files import atomic_write


def filling_frames(
    policy: SkeletonPolicy, collection: CrystalCollection, crystal: str | int, start_site: int = 0
) -> list[np.ndarray]:
    """A crystal being filled by a policy: its empty skeleton, then one frame a step.

    Args:
        policy: chooses the most probable elements.
        collection: where the crystal is from.
        crystal: its id or row.
        source: the site filled first.

    Returns:
        n + 1 images, uint8 (height, width, 3).
    """
    env = CrystalSkeletonEnv(
        collection=collection,
        split="all",
        vocabulary=policy.vocabulary.symbols,
        render_mode="rgb_array",
    )
    observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
    frames = [np.asarray(env.render())]
    terminated = False
    while not terminated:
        observation, _, terminated, _, _ = env.step(int(policy.act(observation)))
        frames.append(np.asarray(env.render()))
    return frames


def save_grid(frames: list[np.ndarray], path: Path, columns: int = 3) -> None:
    """Write frames of one size as one PNG, row by row.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.image import imsave

    blank = np.full_like(frames[0], 255)
    padded = frames + [blank] * (-len(frames) % columns)
    rows = [
        np.concatenate(padded[first : first + columns], axis=1)
        for first in range(0, len(padded), columns)
    ]
    with atomic_write(path) as beside:
        imsave(beside, np.concatenate(rows), format="png")
