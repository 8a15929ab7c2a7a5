"""What decides a prediction beside the run and the studies; checked before anything slow is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mpi_unet.cohort.differences import DIFFERENCE_KINDS, Difference
from mpi_unet.errors import ConfigError, listing, nearest
from mpi_unet.files import sha256

__all__ = ["COMPONENTS", "MEASUREMENTS", "RUNTIMES", "Options", "Shard"]

RUNTIMES = ("torch", "compile", "onnxruntime", "openvino")
COMPONENTS = ("plausible", "largest", "none")
MEASUREMENTS = ("cardiac", "volume")
DEVICES = ("auto", "cpu", "cuda")

LARGEST_SCALE = 0.3
"""Test-time scaling beyond it shows the network hearts that it never learnt."""


@dataclass(frozen=True)
class Shard:
    """One part of the studies: number ``index`` (from 0) of ``number``; it takes every ``number``-th study."""

    index: int = 0
    number: int = 1

    @classmethod
    def of(cls, text: str | None) -> Shard:
        """Read ``"0/8"``; None is the whole.

        Raises:
            ConfigError: It has another form.

        Example:
            >>> Shard.of("2/8"), Shard.of(None)
            (Shard(index=2, number=8), Shard(index=0, number=1))
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"(\d+)/(\d+)", str(text))
        index, number = (int(found[1]), int(found[2])) if found else (0, 0)
        if not index < number:
            raise ConfigError(
                f"shard={text}: expected <part>/<number of parts>, counted from 0, for example shard=0/8 to shard=7/8"
            )
        return cls(index, number)

    def takes(self, position: int) -> bool:
        """Whether the study at this position belongs to the part."""
        return position % self.number == self.index


@dataclass(frozen=True)
class Options:
    """How studies are segmented.

    Attributes:
        shift_px: Test-time augmentation: besides the image itself, it is shifted by so many pixels in both directions
            of each axis of a frame, and the probabilities are shifted back and averaged; 0 for none.
        scale: The same with the image made smaller and larger by this share; 0 for none.
        component: Which parts of a mask are kept: ``plausible``, ``largest`` or ``none`` (all of it).
        measurements: ``cardiac`` (volumes, mass, ejection fraction, polar map) or ``volume`` alone, which is faster.
        probabilities: Write the probabilities beside the masks.
        short_axis: Write transaxial studies turned to short-axis slices as well.
        allow_other_domain: Segment studies that are not like those of training, and say so in the table; or kinds of
            `mpi_unet.cohort.differences.DIFFERENCE_KINDS`: those that differ in nothing else.
        batch_size: Frames (2-D) or volumes (3-D) that go through a network at once.
        runtime: What runs the networks.
        device: ``auto``, ``cpu`` or ``cuda``.
        num_workers: Processes that fit surfaces while the networks work; None for all cores but one, 0 for none.
    """

    shift_px: int = 0
    scale: float = 0.0
    component: str = "plausible"
    measurements: str = "cardiac"
    probabilities: bool = False
    short_axis: bool = False
    allow_other_domain: bool | list[str] = False
    batch_size: int = 128
    runtime: str = "torch"
    device: str = "auto"
    num_workers: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{key}={value}; expected {' | '.join(allowed)}{nearest(str(value), allowed)}"
            for key, value, allowed in (
                ("postprocessing.component", self.component, COMPONENTS),
                ("measurements", self.measurements, MEASUREMENTS),
                ("runtime", self.runtime, RUNTIMES),
                ("device", self.device, DEVICES),
            )
            if value not in allowed
        ]
        if not (isinstance(self.shift_px, int) and self.shift_px >= 0):
            problems.append(f"test_time.shift_px={self.shift_px}; expected a number of pixels, 0 for no shifts")
        if not 0 <= self.scale <= LARGEST_SCALE:
            problems.append(f"test_time.scale={self.scale}; expected a share from 0 (no scaling) to {LARGEST_SCALE}")
        if not (isinstance(self.batch_size, int) and self.batch_size >= 1):
            problems.append(f"batch_size={self.batch_size}; expected a number of 1 or more")
        if self.num_workers is not None and self.num_workers < 0:
            problems.append(f"num_workers={self.num_workers}; expected 0 (no processes) or more, or null")
        for kind in [] if isinstance(self.allow_other_domain, bool) else self.allow_other_domain:
            if kind not in DIFFERENCE_KINDS:
                problems.append(
                    f"allow_other_domain names {kind}; expected true, false, or a list of "
                    f"{' | '.join(DIFFERENCE_KINDS)}{nearest(str(kind), DIFFERENCE_KINDS)}"
                )
        if self.runtime in ("onnxruntime", "openvino") and self.device == "cuda":
            problems.append(f"runtime={self.runtime} runs on the CPU; leave out device=cuda, or use runtime=torch")
        if problems:
            raise ConfigError(
                problems[0] if len(problems) == 1 else f"several keys are wrong:\n{listing(problems)}\nCorrect them"
            )

    def allows(self, found: Difference) -> bool:
        """Whether a study that differs from training in this way is segmented all the same.

        Example:
            >>> few = Difference("counts", "the sum of its values is 7e4, training had 5e5 to 9e5")
            >>> Options().allows(few), Options(allow_other_domain=["counts"]).allows(few)
            (False, True)
        """
        allowed = self.allow_other_domain
        return found.kind in DIFFERENCE_KINDS and (allowed if isinstance(allowed, bool) else found.kind in allowed)

    def key(self) -> str:
        """The same text for options that give the same masks and files; speed does not count."""
        parts = (self.shift_px, self.scale, self.component, self.measurements, self.probabilities, self.short_axis)
        return sha256(*map(str, (*parts, self.allow_other_domain, self.runtime)))
