"""Images of an episode in which a policy fills a crystal."""

from pathlib import Path

import numpy as np

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.utils.files import atomic_write


def filling_frames(
    policy: SkeletonPolicy, collection: CrystalCollection, crystal: str | int, start_site: int = 0
) -> list[np.ndarray]:
    """Render an episode of a policy: the empty skeleton, then one frame per step.

    Args:
        policy: The policy, which chooses the most probable element at each step.
        collection: The collection of the crystal.
        crystal: Id or row of the crystal.
        start_site: The site that is filled first.

    Returns:
        n + 1 images, uint8 (height, width, 3), for a crystal with n sites.
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
    """Write frames of equal size to one PNG file, row by row.

    Args:
        frames: Images, uint8 (height, width, 3).
        path: The PNG file.
        columns: Number of frames per row.

    Raises:
        StorageError: If the file cannot be written.
    """
    from matplotlib.image import imsave

    blank = np.full_like(frames[0], 255)
    padded = frames + [blank] * (-len(frames) % columns)
    rows = [
        np.concatenate(padded[first : first + columns], axis=1)
        for first in range(0, len(padded), columns)
    ]
    with atomic_write(path) as temporary:
        imsave(temporary, np.concatenate(rows), format="png")
