"""Drawings of crystals during an episode: as text, as pixels and in a window."""

from crystal_gym.envs.rendering.drawing import draw
from crystal_gym.envs.rendering.scene import Scene, make_scenes
from crystal_gym.envs.rendering.window import Window

__all__ = ["Scene", "Window", "draw", "make_scenes"]
