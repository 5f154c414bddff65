"""TorchRL's replay buffer has the values of a Minari dataset."""

import minari
import numpy as np
import pytest
import torch

from crystal_datasets import build_dataset
from crystal_datasets.torchrl_loader import load_minari_replay

pytest.importorskip("torchrl")


@pytest.mark.parametrize("observations", ["dict", "flat"])
def test_values_equal_those_of_minari(observations, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    name = build_dataset("goldschmidt", "val", trajectories=1, observations=observations)
    for _ in range(2):  # the second call reads the copy of the first
        data = load_minari_replay(name, tmp_path / "torchrl")[:]
        episodes = list(minari.load_dataset(name))
        assert len(data) == sum(len(episode) for episode in episodes)
        np.testing.assert_array_equal(
            data["action"], np.concatenate([episode.actions for episode in episodes])
        )
        rewards = np.concatenate([episode.rewards for episode in episodes])
        np.testing.assert_array_equal(data["next", "reward"][:, 0], rewards)
        assert rewards.any()
        for steps, key in ((slice(None, -1), ()), (slice(1, None), ("next",))):
            if observations == "flat":
                flat = np.concatenate([episode.observations[steps] for episode in episodes])
                np.testing.assert_array_equal(data[(*key, "observation")], flat)
            else:
                for entry, values in data[(*key, "observation")].items():
                    expected = [episode.observations[entry][steps] for episode in episodes]
                    np.testing.assert_array_equal(values, np.concatenate(expected))


def test_tensordict_is_as_before_after_an_error(tmp_path):
    from tensordict import TensorDict

    before = TensorDict.memmap_like
    with pytest.raises(Exception, match="no-such"):
        load_minari_replay("no-such/data-v0", tmp_path)
    assert TensorDict.memmap_like is before
    assert torch.equal(
        TensorDict({"x": torch.ones(2)}).memmap_like(str(tmp_path / "x"))["x"], torch.zeros(2)
    )
