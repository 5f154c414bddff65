"""A window for the render mode ``human``."""

from typing import TYPE_CHECKING

from gymnasium import logger

from crystal_gym.envs.rendering.drawing import FIGURE_DPI, FIGURE_SIZE, draw
from crystal_gym.envs.rendering.scene import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Window:
    """A window that shows one scene after another; without a display, it only issues a warning."""

    def __init__(self) -> None:
        self._figure: Figure | None = None
        self._open()

    def _open(self) -> None:
        from matplotlib import pyplot as plt

        figure = plt.figure("crystal-gym", figsize=FIGURE_SIZE, dpi=FIGURE_DPI)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            plt.close(figure)
            logger.warn(
                "Nothing is shown, because there is no display or Matplotlib has no interactive "
                "backend. Use render_mode='rgb_array' for images or 'ansi' for text."
            )
        else:
            self._figure = figure

    def show(self, scene: Scene, seconds: float) -> None:
        """Show a scene and pause.

        Args:
            scene: The crystal to draw.
            seconds: Length of the pause in seconds.
        """
        if self._figure is None:
            return
        from matplotlib import pyplot as plt

        if not plt.fignum_exists(self._figure.number):
            self._open()  # the user has closed the window
        self._figure.clear()
        draw(
            scene.skeleton,
            scene.atomic_numbers,
            scene.focus,
            title=scene.title,
            figure=self._figure,
        )
        canvas = self._figure.canvas
        canvas.manager.show()  # type: ignore[union-attr] - figures of pyplot have a manager
        canvas.draw_idle()
        canvas.start_event_loop(seconds)

    def close(self) -> None:
        """Close the window."""
        if self._figure is not None:
            from matplotlib import pyplot as plt

            plt.close(self._figure)
            self._figure = None
