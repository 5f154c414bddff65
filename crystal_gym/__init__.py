"""Assign elements to the sites of crystal skeletons.

Importing this package registers the environment ``CrystalSkeleton-v0``, and with flat observations
``CrystalSkeletonFlat-v0``. Public names are imported on first use, so that the import of the
package is fast.
"""

from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

from crystal_gym.utils.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_gym.collections import COLLECTIONS, load_collection
    from crystal_gym.collections.collection import CrystalCollection
    from crystal_gym.collections.structures import collection_from_structures
    from crystal_gym.crystals.elements import Vocabulary
    from crystal_gym.crystals.skeleton import Skeleton
    from crystal_gym.envs.flat_observation import FlatObservation
    from crystal_gym.envs.flat_vector_observation import FlatVectorObservation
    from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
    from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
    from crystal_gym.errors import CrystalGymError

    __version__: str

__all__ = [
    "COLLECTIONS",
    "CrystalCollection",
    "CrystalGymError",
    "CrystalSkeletonEnv",
    "CrystalSkeletonVectorEnv",
    "FlatObservation",
    "FlatVectorObservation",
    "Skeleton",
    "Vocabulary",
    "__version__",
    "collection_from_structures",
    "load_collection",
]

_HOMES = {
    "COLLECTIONS": "crystal_gym.collections",
    "CrystalCollection": "crystal_gym.collections.collection",
    "CrystalGymError": "crystal_gym.errors",
    "CrystalSkeletonEnv": "crystal_gym.envs.skeleton_env",
    "CrystalSkeletonVectorEnv": "crystal_gym.envs.vector_env",
    "FlatObservation": "crystal_gym.envs.flat_observation",
    "FlatVectorObservation": "crystal_gym.envs.flat_vector_observation",
    "Skeleton": "crystal_gym.crystals.skeleton",
    "Vocabulary": "crystal_gym.crystals.elements",
    "collection_from_structures": "crystal_gym.collections.structures",
    "load_collection": "crystal_gym.collections",
}

register(
    id="CrystalSkeleton-v0",
    entry_point="crystal_gym.envs.skeleton_env:CrystalSkeletonEnv",
    vector_entry_point="crystal_gym.envs.vector_env:CrystalSkeletonVectorEnv",
)
register(
    id="CrystalSkeletonFlat-v0",
    entry_point="crystal_gym.envs.flat_observation:CrystalSkeletonFlatEnv",
    vector_entry_point="crystal_gym.envs.flat_vector_observation:make_flat_vector",
)


_load, __dir__ = lazy_names(__name__, {**_HOMES, "__version__": ""})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("crystal-gym")
    return _load(name)
