"""The single environment."""

import operator
from typing import TYPE_CHECKING, Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.envs.setup import check_render_mode, resolve_generator
from crystal_gym.episode import EpisodeState, fill, observation_space, observe, start
from crystal_gym.errors import (
    InvalidActionError,
    ResetNeededError,
)
from crystal_gym.masks import Mask, resolve_mask
from crystal_gym.rewards import finish, resolve_reward

if TYPE_CHECKING:
    from crystal_gym.envs.rendering import Window
    from crystal_gym.rewards.registry import RewardLike


class CrystalSkeletonEnv(gym.Env[dict[str, Any], int | np.int64]):
    """Fill the empty sites of a crystal with elements, one site after the other.

    ## Description

    A *crystal skeleton* is a unit cell whose sites are known and whose elements are not. An agent
    walks over the sites and puts an element on each, as in "Behavioral Cloning for Crystal Design"
    (Govindarajan et al., 2023). Skeletons come from real or computed crystals, whose elements the
    agent may be paid for finding again; it sees their geometry alone.

    ## Action Space

    `Discrete(V)`: the element to put on the site in focus, by its place in the vocabulary.
    `info["action_mask"]` (int8, for `env.action_space.sample(mask)`) and `action_masks()` (bool,
    for sb3-contrib) tell which elements the mask allows; others are put there all the same.
    `expert_action()` is the action that puts the source crystal's own element there.

    ## Observation Space

    A `Dict` of fixed size, with room for N sites and E edges:

    | Key           | Shape, type    | Values                                                |
    |---------------|----------------|-------------------------------------------------------|
    | `element`     | (N,) int32     | -1 no site, 0 empty, a + 1 where action a was taken   |
    | `frac_coords` | (N, 3) float32 | fractional coordinates in [0, 1]; 0 on padding        |
    | `lattice`     | (6,) float32   | lengths a, b, c in Å; angles α, β, γ in degrees       |
    | `edges`       | (E, 5) int32   | source, target, its image (i, j, k); -1 on padding    |
    | `focus`       | () int64       | the site to fill now; at the end, the one filled last |

    ## Rewards

    By name,

    - `match` (default): 1/n for each of the n sites that is filled as in the source crystal, so
      that the return is the accuracy of the paper.
    - `validity`: 1 at the end if SMACT finds the composition valid (the paper's measure), else 0;
      `validity-strict` without alloys and single elements, `validity-icsd24` with another set of
      oxidation states.
    - `formation-energy`: at the end minus the formation energy of the crystal in eV/atom, by the
      potential CHGNet (extra `energy`) or another ASE calculator.
    - `perov5-dft`: at the end minus the DFT energy of the crystal strained to the skeleton's
      lattice, in eV/atom; for collection `perov-5`.
    - `perov5-gap`: at the end how near the DFT band gap is to a wanted one, from 0 to 1; for
      collection `perov-5`.

    A mapping gives weights or parameters: `{"match": 1, "validity-strict": 0.5}` is a weighted sum,
    `{"perov5-gap": {"target": 1.5}}` sets the target, and
    `{"match": 1, "perov5-gap": {"weight": 0.5, "target": 1.5}}` does both.

    Besides, a function of the finished pymatgen `Structure`, whose value is paid at the end; and
    any `crystal_gym.rewards.Reward`.

    ## Starting State

    All sites are empty. The crystal is drawn from the split and the start site, at which the
    traversal begins, from the crystal's sites. `reset(options={"crystal": …, "start_site": …})` picks
    them: the crystal by its id (str) or row (int), from any split, the source by its site.

    ## Episode End

    The episode terminates when every site is filled, after n steps. It is never truncated.

    ## Arguments

    All can be JSON values, so that the environment can be made again from its spec.

    | Argument      | Default           | Meaning                                            |
    |---------------|-------------------|----------------------------------------------------|
    | `collection`  | `"goldschmidt"`   | name, path(s), structures or a `CrystalCollection` |
    | `split`       | `"train"`         | `train`, `val`, `test` or `all`                    |
    | `split_by`    | `"origin"`        | `source`, or `composition`: each in one split only |
    | `vocabulary`  | `None`            | element symbols; `None`: all of the collection     |
    | `traversal`   | `"breadth-first"` | from the source: or `index`, or `random`           |
    | `source`      | `None`            | first site of every episode; `None`: drawn         |
    | `max_sites`   | `None`            | N; `None`: the largest cell of the collection      |
    | `reward`      | `"match"`         | name, mapping, function, or `Reward`; see Rewards  |
    | `mask`        | `"none"`          | or `charge-neutral`, or function of (table, state) |
    | `render_mode` | `None`            | `ansi`, `rgb_array` or `human`                     |

    In place of the first seven, a `generator` (`crystal_gym.envs.generator.InstanceGenerator`) may be
    given.

    ## Info

    | Key                | Shape, type | When   | Meaning                                         |
    |--------------------|-------------|--------|-------------------------------------------------|
    | `action_mask`      | (V,) int8   | always | 1 for each element that the mask allows         |
    | `crystal`          | () int      | always | row of the source crystal in the collection     |
    | `source`           | () int      | always | the site that the episode began at              |
    | `match`            | () float    | end    | fraction of the sites with their true element   |
    | `validity`         | () float    | end    | `validity…`: 1 if valid, else 0                 |
    | `formation_energy` | () float    | end    | `formation-energy`: eV/atom or NaN              |
    | `heat`             | () float    | end    | `perov5-dft`: heat of formation, eV/atom or NaN |
    | `strain`           | () float    | end    | `perov5-dft`: strain energy, eV/atom or NaN     |
    | `gap`              | () float    | end    | `perov5-gap`: band gap, eV or NaN               |
    | `labelled`         | () float    | end    | `perov5-…`: 1 if the label is known, else 0     |
    | `regret`           | () float    | end    | `perov5-…`: best known here minus this reward   |
    | `score`            | () float    | end    | function: its value                             |
    | `failed`           | () float    | end    | function, energy: 1 if NaN or infinite, else 0  |
    | `failures`         | () float    | end    | function, energy: how often that was so far     |

    In a weighted sum each key of a reward stands behind the reward's name, as in
    `perov5-dft/regret`.

    ## Vectorized environment

    `gymnasium.make_vec("CrystalSkeleton-v0", num_envs=1024)` gives the native
    `CrystalSkeletonVectorEnv`, which is many times faster than single environments side by side.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 2}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        *,
        generator: InstanceGenerator | None = None,
        reward: "RewardLike" = "match",
        mask: str | Mask = "none",
        render_mode: str | None = None,
        **instances: Unpack[InstanceKeywords],
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.generator = resolve_generator(generator, instances)
        self.reward = resolve_reward(reward)
        self.mask = resolve_mask(mask)
        self.render_mode = render_mode
        table = self.table = self.generator.table
        self.reward.prepare(table)
        self.observation_space = observation_space(
            table.max_sites, table.max_edges, table.n_elements
        )
        self.action_space = spaces.Discrete(table.n_elements)
        self._state: EpisodeState | None = None
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; see Starting State."""
        super().reset(seed=seed)
        self._state = start(self.table, *self.generator.draw(self.np_random, options=options))
        if self.render_mode == "human":
            self.render()
        return observe(self.table, self._state), self._info(self._state)

    def step(
        self, action: int | np.int64
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Put an element on the site in focus.

        Raises:
            InvalidActionError: the action is not an integer from 0 to V - 1.
            ResetNeededError: no episode is under way.
        """
        state = self._under_way()
        if state.step == state.n_sites:
            raise ResetNeededError("The episode is over: all sites are filled. Call reset().")
        try:
            choice = operator.index(action)
        except TypeError:
            choice = -1
        if not 0 <= choice < self.table.n_elements:
            raise InvalidActionError(
                f"An action is an integer from 0 to {self.table.n_elements - 1}, not {action!r}."
            )
        reward = float(self.reward.on_fill(self.table, state.crystal, state.focus, choice + 1))
        full = bool(fill(state, choice))  # type: ignore[arg-type] - scalars move alike
        info = self._info(state)
        if full:
            crystal = np.array([state.crystal])
            last, components = finish(self.reward, self.table, crystal, state.elements[None])
            reward += float(last[0])
            info.update({name: values[0].item() for name, values in components.items()})
        if self.render_mode == "human":
            self.render()
        return observe(self.table, state), reward, full, False, info

    def action_masks(self) -> np.ndarray:
        """The elements that the mask allows on the site in focus, bool (V,)."""
        return self.mask(self.table, self._under_way())

    def expert_action(self) -> int:
        """The action that puts the source crystal's element on the site in focus."""
        state = self._under_way()
        return int(self.table.true_elements[state.crystal, state.focus]) - 1

    def render(self) -> Any:
        """The crystal as text, as uint8 (height, width, 3), or in a window, by ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn("No picture without a render_mode; pass one to gymnasium.make.")
            return None
        from crystal_gym.envs import rendering

        scene = rendering.scenes(self.table, self._under_way())[0]
        if self.render_mode == "ansi":
            return scene.text()
        if self.render_mode == "rgb_array":
            return scene.pixels()
        if self._window is None:
            self._window = rendering.Window()
        self._window.show(scene, 1 / self.metadata["render_fps"])
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _under_way(self) -> EpisodeState:
        if self._state is None:
            raise ResetNeededError("There is no episode yet. Call reset() first.")
        return self._state

    def _info(self, state: EpisodeState) -> dict[str, Any]:
        return {
            "action_mask": self.mask(self.table, state).view(np.int8),
            "crystal": state.crystal,
            "start_site": int(state.order[0]),
        }
