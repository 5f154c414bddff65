"""Floors that a policy must beat: rules that know no chemistry."""

import numpy as np
from scipy.spatial import KDTree

from crystal_agents.evaluation.returns import episode_returns
from crystal_agents.rollouts.rollout import Scorer
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards import Reward


def _one_hot(codes: np.ndarray, n_elements: int) -> np.ndarray:
    return np.eye(n_elements)[codes - 1]


def uniform(n_elements: int, seed: int) -> Scorer:
    """Every element equally likely."""
    rng = np.random.default_rng(seed)

    def score(state: EpisodeState) -> np.ndarray:
        return rng.random((len(state.crystal), n_elements))

    return score


def most_frequent(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """Always the element that is most frequent in the training crystals."""
    codes = table.true_elements[train]
    counts = np.bincount(codes[codes > 0] - 1, minlength=len(table.vocabulary))

    def score(state: EpisodeState) -> np.ndarray:
        return np.broadcast_to(counts, (len(state.crystal), len(counts)))

    return score


def most_frequent_per_site(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """The most frequent element of each site number, among cells with as many sites."""
    v = len(table.vocabulary)
    counts = {}
    for n in np.unique(table.n_sites[train]):
        codes = table.true_elements[train[table.n_sites[train] == n], :n]
        counts[n] = np.stack([np.bincount(site - 1, minlength=v) for site in codes.T])

    def score(state: EpisodeState) -> np.ndarray:
        n = int(table.n_sites[state.crystal[0]])
        # Sizes of cell that training never saw: no preference.
        known = counts.get(n, np.zeros((n, v)))
        return known[state.focus]

    return score


def best_constant(
    table: EpisodeTable, rows: np.ndarray, candidates: np.ndarray, reward: Reward
) -> Scorer:
    """One filling for all cells of a size: the candidate with the highest mean return.

    Args:
        table: the crystals.
        rows: those on which candidates are tried, (C,).
        candidates: codes, (k, N), padded with -1.
        reward: what is earned.
    """
    constants = {}
    sizes = (candidates >= 0).sum(1)
    for n in np.unique(sizes):
        crystals = rows[table.n_sites[rows] == n]
        if not len(crystals):
            continue
        fillings = np.unique(candidates[sizes == n], axis=0)
        earned = [
            episode_returns(table, crystals, np.tile(filling, (len(crystals), 1)), reward)["return"]
            for filling in fillings
        ]
        best = fillings[np.mean(earned, axis=1).argmax(), :n]
        constants[n] = _one_hot(best, len(table.vocabulary))

    def score(state: EpisodeState) -> np.ndarray:
        n = int(table.n_sites[state.crystal[0]])
        # Sizes of cell without a candidate: no preference.
        return constants.get(n, np.zeros((n, len(table.vocabulary))))[state.focus]

    return score


def nearest_skeleton(table: EpisodeTable, train: np.ndarray) -> Scorer:
    """The element on this site in the training crystal whose skeleton is most alike.

    Alike: in lattice vectors and in the vectors between the sites and the first one (Å, nearest
    images), among cells with as many sites.
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


def _skeleton_features(table: EpisodeTable) -> np.ndarray:
    lattice = lattice_matrix(table.lattice)
    apart = table.frac_coords - table.frac_coords[:, :1]
    apart = apart - np.round(apart)
    vectors = np.einsum("cni,cij->cnj", apart, lattice)
    return np.concatenate([lattice.reshape(len(lattice), 9), vectors.reshape(len(lattice), -1)], 1)
