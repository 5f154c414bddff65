"""Minari datasets in TorchRL, without a defect of its loader."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from torchrl.data.datasets import MinariExperienceReplay


def load_minari_replay(
    dataset_id: str, root: str | Path, *, batch_size: int = 256, **settings: Any
) -> "MinariExperienceReplay":
    """Load a local Minari dataset as a replay buffer of TorchRL, with its values.

    TorchRL 0.14.1 replaces the contents of every Minari dataset by zeros, see
    ``docs/upstream/torchrl-minari.md``. This function corrects the call that drops them. It
    replaces a method of ``tensordict`` while it runs, so no other thread should use tensordicts.

    Args:
        dataset_id: Id of a dataset in Minari's folder, of this or another project, with at least
            two episodes.
        root: Folder of TorchRL's copy, which is written on the first call. Do not use it for
            copies that TorchRL has made without this function: they contain zeros.
        batch_size: Number of steps in a batch.
        **settings: Keyword arguments of ``MinariExperienceReplay``.

    Returns:
        The replay buffer. ``buffer.sample()`` is a ``TensorDict`` with the keys ``observation``,
        ``action``, ``("next", "observation")``, ``("next", "reward")`` and ``("next", "done")``.

    Raises:
        ImportError: If TorchRL is not installed.
    """
    from tensordict import TensorDict
    from torchrl.data.datasets import MinariExperienceReplay

    # `memmap_like` allocates files without contents; `memmap` also copies the contents.
    with mock.patch.object(TensorDict, "memmap_like", TensorDict.memmap):
        return MinariExperienceReplay(
            dataset_id,
            batch_size=batch_size,
            root=str(root),
            download=True,
            load_from_local_minari=True,
            **settings,
        )
