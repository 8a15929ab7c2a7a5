"""Looking through the slices of a run in a notebook.

With ipywidgets and a front end that speaks to the kernel, cases, slices and outlines are chosen by hand. Everywhere
else - a page made of the notebook, an editor without widgets, ipywidgets not installed - the same object is a picture
of the slices that went worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi_unet.api.outlined import Outlined
    from mpi_unet.api.pictures import Picture
    from mpi_unet.api.run import Run

__all__ = ["Viewer"]


@dataclass(frozen=True)
class Viewer:
    """Slices of the cases of a run, the worst case first.

    Attributes:
        run: The run.
        case_ids: Its cases in the order of the menu.
        first: The case that is shown first.
    """

    run: Run
    case_ids: tuple[str, ...]
    first: str

    @property
    def picture(self) -> Picture:
        """The first case as a picture: what is shown where nothing can be chosen."""
        return self.run.case(self.first).plot()

    @cached_property
    def widget(self) -> Any:
        """The viewer as an ipywidgets widget; None where ipywidgets is not installed."""
        return _widget(self) if find_spec("ipywidgets") else None

    def frame_png(self, case_id: str, frame: int, hidden: frozenset[str] = frozenset()) -> bytes:
        """One slice with the outlines that are not hidden, as PNG."""
        from mpi_unet.api.pictures import frame_figure

        return frame_figure(self._outlined(case_id), frame, hidden).png()

    def _outlined(self, case_id: str) -> Outlined:
        if case_id not in self._read:
            self._read.clear()  # one case at a time: a cohort does not fit into memory
            self._read[case_id] = self.run.case(case_id).outlined()
        return self._read[case_id]

    @cached_property
    def _read(self) -> dict[str, Outlined]:
        return {}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        data, look = self.picture._repr_mimebundle_()
        return data if self.widget is None else data | self.widget._repr_mimebundle_(), look


def _widget(viewer: Viewer) -> Any:
    """Menu, slider, a box to tick for each outline, and the picture that follows them."""
    import ipywidgets as widgets

    labels = [(f"{case_id}   Dice {viewer.run.dice_of(case_id):.3f}", case_id) for case_id in viewer.case_ids]
    case = widgets.Dropdown(options=labels, value=viewer.first, description="case")
    frame = widgets.IntSlider(min=1, max=1)
    boxes = widgets.VBox()
    picture = widgets.Image(format="png")

    def draw(change: Any = None) -> None:
        hidden = frozenset(box.description for box in boxes.children if not box.value)
        picture.value = viewer.frame_png(case.value, frame.value - 1, hidden)

    def enter(change: Any = None) -> None:
        outlined = viewer._outlined(case.value)
        if tuple(box.description for box in boxes.children) != tuple(outlined.masks):
            boxes.children = tuple(widgets.Checkbox(True, description=name, indent=True) for name in outlined.masks)
            for box in boxes.children:
                box.observe(draw, "value")
        with frame.hold_trait_notifications():
            frame.max, frame.value = len(outlined.image), outlined.worst_frame() + 1
        frame.description = outlined.word
        draw()

    enter()
    case.observe(enter, "value")
    frame.observe(draw, "value")
    return widgets.HBox([picture, widgets.VBox([case, frame, boxes])])
