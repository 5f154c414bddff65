"""Baselines: scorers that use no chemistry, only counts and distances in the training crystals."""

import numpy as np
from scipy.spatial import KDTree

from crystal_agents.evaluation.returns import episode_returns
from crystal_agents.rollouts.rollout import Scorer
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards import Reward


def uniform(n_elements: int, seed: int) -> Scorer:
    """Return a scorer that chooses uniformly among the elements.

    Args:
        n_elements: Size of the vocabulary.
        seed: Seed of the random scores.
    """
    rng = np.random.default_rng(seed)

    def score(state: EpisodeState) -> np.ndarray:
        return rng.random((len(state.crystal), n_elements))

    return score


def most_frequent(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """Return a scorer that always chooses the most frequent element of the training crystals.

    Args:
        table: The crystals.
        train: Rows of the training crystals.
    """
    codes = table.true_elements[train]
    counts = np.bincount(codes[codes > 0] - 1, minlength=len(table.vocabulary))

    def score(state: EpisodeState) -> np.ndarray:
        return np.broadcast_to(counts, (len(state.crystal), len(counts)))

    return score


def most_frequent_per_site(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """Return a scorer that chooses the most frequent element of each site number.

    Elements are counted among the training crystals with the same number of sites.

    Args:
        table: The crystals.
        train: Rows of the training crystals.
    """
    v = len(table.vocabulary)
    counts = {}
    for n in np.unique(table.n_sites[train]):
        codes = table.true_elements[train[table.n_sites[train] == n], :n]
        counts[n] = np.stack([np.bincount(site - 1, minlength=v) for site in codes.T])

    def score(state: EpisodeState) -> np.ndarray:
        n = int(table.n_sites[state.crystal[0]])
        # Equal scores if no training crystal has n sites.
        return counts.get(n, np.zeros((n, v)))[state.focus]

    return score


def best_constant(
    table: EpisodeTable, rows: np.ndarray, candidates: np.ndarray, reward: Reward
) -> Scorer:
    """Return a scorer that uses the best constant filling of each number of sites.

    The best constant filling of n sites is the candidate with the highest mean return.

    Args:
        table: The crystals.
        rows: Crystals on which the candidates are compared, rows of the table, (C,).
        candidates: Codes of the candidate fillings, (k, N), padded with -1.
        reward: The reward.
    """
    constants = {}
    sizes = (candidates >= 0).sum(1)
    for n in np.unique(sizes):
        crystals = rows[table.n_sites[rows] == n]
        if not len(crystals):
            continue
        fillings = np.unique(candidates[sizes == n], axis=0)
        returns = [
            episode_returns(table, crystals, np.tile(filling, (len(crystals), 1)), reward)["return"]
            for filling in fillings
        ]
        best = fillings[np.mean(returns, axis=1).argmax(), :n]
        constants[n] = _one_hot(best, len(table.vocabulary))

    def score(state: EpisodeState) -> np.ndarray:
        n = int(table.n_sites[state.crystal[0]])
        # Equal scores if no candidate has n sites.
        return constants.get(n, np.zeros((n, len(table.vocabulary))))[state.focus]

    return score


def nearest_skeleton(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """Return a scorer that copies the elements of the training crystal with the nearest skeleton.

    The distance is Euclidean in the lattice vectors and the vectors from the first site to the
    nearest image of each site (Å), among crystals with the same number of sites.

    Args:
        table: The crystals.
        train: Rows of the training crystals.
    """
    features = _skeleton_features(table)
    trees = {
        n: (rows := train[table.n_sites[train] == n], KDTree(features[rows, : 9 + 3 * n]))
        for n in np.unique(table.n_sites[train]).tolist()
    }

    def score(state: EpisodeState) -> np.ndarray:
        n = int(table.n_sites[state.crystal[0]])
        if n not in trees:
            return np.zeros((len(state.crystal), len(table.vocabulary)))
        rows, tree = trees[n]
        _, nearest = tree.query(features[state.crystal, : 9 + 3 * n])
        return _one_hot(table.true_elements[rows[nearest], state.focus], len(table.vocabulary))

    return score


def _one_hot(codes: np.ndarray, n_elements: int) -> np.ndarray:
    """Encode codes from 1 to V as rows of the identity matrix."""
    return np.eye(n_elements)[codes - 1]


def _skeleton_features(table: EpisodeTable) -> np.ndarray:
    """Return lattice vectors and relative positions of all crystals in Å, (S, 9 + 3 N)."""
    lattice = lattice_matrix(table.lattice)
    offsets = table.frac_coords - table.frac_coords[:, :1]
    offsets = offsets - np.round(offsets)
    vectors = np.einsum("cni,cij->cnj", offsets, lattice)
    return np.concatenate([lattice.reshape(len(lattice), 9), vectors.reshape(len(lattice), -1)], 1)
