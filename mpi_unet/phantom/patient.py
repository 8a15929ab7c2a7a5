"""Who the patient is: the parameters of body, heart, uptake and perfusion defects, and how they vary between patients.

Every distribution below stands with its reason. ``[n]`` refers to the list of sources in docs/phantom.md; "choice"
marks a value that was set by eye so that the images look as clinical ones do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpi_unet.phantom.random_streams import Stream

__all__ = [
    "STUDIES",
    "TERRITORIES",
    "TRACERS",
    "Body",
    "BowelLoop",
    "Defect",
    "HeartShape",
    "Patient",
    "Uptake",
    "sample_patient",
]

STUDIES = ("rest", "stress")
"""Names of the studies of one patient; the position is part of the random key."""

TRACERS = ("sestamibi", "tetrofosmin")

TERRITORIES = {"LAD": (335.0, 0.62), "RCA": (200.0, 0.40), "LCX": (100.0, 0.42)}
"""Center of each coronary territory: wall angle in degrees, and level from base (0) to apex (1), after [1]."""


@dataclass(frozen=True)
class Body:
    """Torso of an elliptic cross-section; lengths in mm, angles in degrees."""

    sex: str
    age_years: float
    height_m: float
    bmi: float
    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    breast_mm: float
    right_dome_mm: float
    left_dome_mm: float
    lung_mu_per_mm: float


@dataclass(frozen=True)
class HeartShape:
    """The heart at end diastole, where it lies and how it contracts; lengths in mm, angles in degrees."""

    endo_radius_mm: float
    endo_half_length_mm: float
    base_fraction: float
    wall_mm: float
    apex_ratio: float
    ejection_fraction: float
    septal_shortening_mm: float
    bend_mm: float
    outline_harmonics: tuple[float, float, float, float]
    wall_harmonics: tuple[float, float]
    papillary_strength: float
    rv_wall_mm: float
    rv_offset_mm: float
    azimuth_deg: float
    elevation_deg: float
    roll_deg: float
    center_mm: tuple[float, float, float]
    breathing_mm: float


@dataclass(frozen=True)
class BowelLoop:
    """A piece of gut with tracer in it: a bent capsule lying in the frontal plane."""

    center_mm: tuple[float, float, float]
    radius_mm: float
    half_length_mm: float
    angle_deg: float
    uptake: float


@dataclass(frozen=True)
class Uptake:
    """Concentration of each tissue relative to normal myocardium."""

    tracer: str
    blood: float
    right_ventricle: float
    lung: float
    soft_tissue: float
    liver: float
    spleen: float
    kidney: float
    gallbladder: float
    stomach: float
    bowel: tuple[BowelLoop, ...]
    unevenness: float
    uneven_pattern: tuple[float, ...]


@dataclass(frozen=True)
class Defect:
    """One perfusion defect: where it lies, how far it reaches and how much uptake is lost.

    ``severity`` is the lost share of uptake at its center, 0 to 1; ``scar`` is the share of it that is there at rest
    too.
    """

    territory: str
    angle_deg: float
    level: float
    half_angle_deg: float
    half_length: float
    severity: float
    scar: float


@dataclass(frozen=True)
class Patient:
    """One simulated patient in one study (rest or stress)."""

    seed: int
    index: int
    study: str
    body: Body
    heart: HeartShape
    uptake: Uptake
    defects: tuple[Defect, ...]


def sample_patient(seed: int, index: int, study: str = "stress") -> Patient:
    """Draw patient ``index`` of the cohort with this seed; rest and stress share the body, the heart and the scars.

    Args:
        seed: Seed of the cohort.
        index: Number of the patient, from 0.
        study: ``rest`` or ``stress``.

    Example:
        >>> sample_patient(7, 3, "rest").body == sample_patient(7, 3, "stress").body
        True
    """
    body = _sample_body(Stream(seed, index, "body"))
    heart_stream = Stream(seed, index, "heart")
    dilated, thick = heart_stream.chance(0.12), heart_stream.chance(0.20)  # referred patients; choice
    heart = _sample_heart(heart_stream, body, dilated=dilated, thick=thick)
    uptake = _sample_uptake(
        Stream(seed, index, "uptake", 1 + STUDIES.index(study)), Stream(seed, index, "uptake"), study
    )
    defects = _sample_defects(Stream(seed, index, "defects"), dilated)
    if study == "rest":
        defects = tuple(_at_rest(defect) for defect in defects if defect.scar > 0)
    return Patient(seed, index, study, body, heart, uptake, defects)


def _sample_body(draw: Stream) -> Body:
    male = draw.chance(0.57)  # [2]
    bmi = draw.lognormal(27.8, 1.17, 19, 44)  # choice: stout, as referred patients are
    height_m = draw.normal(1.74 if male else 1.61, 0.07, 1.45, 2.0)
    size = (bmi / 27) ** 0.5 * height_m / 1.70
    depth = (bmi / 27) ** 0.65
    return Body(
        sex="M" if male else "F",
        age_years=draw.normal(64, 12, 30, 92),  # [2]
        height_m=height_m,
        bmi=bmi,
        half_width_mm=min(max(draw.normal(172, 8) * size, 140.0), 198.0),  # chest breadth; upper limit: field of view
        half_depth_mm=min(max(draw.normal(114, 6) * depth, 85.0), 165.0),
        fat_mm=min(max(4 + 1.3 * (bmi - 18) + draw.normal(0, 3), 4.0), 40.0),  # choice
        breast_mm=0.0 if male else min(max((bmi - 16) * 1.8 + draw.normal(0, 6), 0.0), 45.0),  # choice
        right_dome_mm=draw.normal(-22, 9, -45, 5),
        left_dome_mm=draw.normal(-43, 8, -68, -26),  # the left dome stands 1-2 cm lower
        lung_mu_per_mm=draw.normal(0.0042, 0.0006, 0.0028, 0.0060),  # density 0.26 g/ml
    )


def _sample_heart(draw: Stream, body: Body, *, dilated: bool, thick: bool) -> HeartShape:
    scale = 1.0 if body.sex == "M" else 0.92  # women's ventricles are smaller [3]
    radius = draw.normal(24.6, 2.1, 18.5, 30) * scale + (draw.uniform(4, 11) if dilated else 0.0)
    half_length = draw.normal(62, 4.5, 50, 74) * scale + (draw.uniform(3, 9) if dilated else 0.0)
    wall = draw.normal(8.2, 0.9, 6.0, 10.5) * scale + (draw.uniform(1.5, 4) if thick else 0.0)  # [3]
    oval = [draw.normal(0, 0.03, -0.07, 0.07) for _ in range(2)]
    triangular = [draw.normal(0, 0.018, -0.04, 0.04) for _ in range(2)]
    return HeartShape(
        endo_radius_mm=radius,
        endo_half_length_mm=half_length,
        base_fraction=draw.normal(0.32, 0.05, 0.2, 0.45),
        wall_mm=wall,
        apex_ratio=draw.normal(0.60, 0.08, 0.4, 0.8),  # the apex is thinner than the free wall; choice
        ejection_fraction=draw.normal(0.33, 0.07, 0.18, 0.48)
        if dilated
        else draw.normal(0.61, 0.07, 0.42, 0.76),  # [4]
        septal_shortening_mm=draw.normal(11, 3, 4, 18),  # the membranous septum takes up no tracer
        bend_mm=draw.normal(2, 1.2, -1, 5),
        outline_harmonics=(oval[0], oval[1], triangular[0], triangular[1]),
        wall_harmonics=(draw.normal(0, 0.06, -0.14, 0.14), draw.normal(0, 0.06, -0.14, 0.14)),
        papillary_strength=draw.normal(0.7, 0.1, 0.4, 1.0),
        rv_wall_mm=draw.normal(3.5, 0.6, 2.2, 5.5),  # choice
        rv_offset_mm=draw.normal(28, 3, 20, 36),
        azimuth_deg=draw.normal(46, 8, 25, 68),  # the long axis points left, forward and down
        elevation_deg=draw.normal(30 - 0.6 * (body.bmi - 27), 8, 5, 52),  # and lies flatter in stout people
        roll_deg=draw.normal(0, 6, -15, 15),
        center_mm=(draw.normal(40, 7, 20, 60), -0.28 * body.half_depth_mm + draw.normal(0, 6), draw.normal(0, 5)),
        breathing_mm=draw.lognormal(7.9, 1.7, 1.1, 30),  # head-to-foot, peak to peak [5]
    )


def _sample_uptake(draw: Stream, of_patient: Stream, study: str) -> Uptake:
    tracer = of_patient.choice(TRACERS, (0.5, 0.5))
    liver = 0.235 if tracer == "sestamibi" else 0.165  # tetrofosmin leaves the liver faster [6]
    liver *= 1.25 if study == "rest" else 1.0  # exercise draws blood flow away from it; choice
    num_loops = draw.choice((0, 1, 2, 3), (0.25, 0.35, 0.25, 0.15))
    return Uptake(
        tracer=tracer,
        blood=draw.lognormal(0.09, 1.35, 0.04, 0.22),
        right_ventricle=draw.normal(0.5, 0.13, 0.2, 0.95),
        lung=draw.lognormal(0.046, 1.25, 0.025, 0.12),
        soft_tissue=draw.lognormal(0.035, 1.25, 0.018, 0.08),
        liver=draw.lognormal(liver, 1.38, 0.10, 1.0),
        spleen=draw.lognormal(0.3, 1.4, 0.1, 0.9),
        kidney=draw.lognormal(0.5, 1.4, 0.2, 1.2),
        gallbladder=draw.lognormal(1.3, 1.7, 0.3, 5.0) if draw.chance(0.6) else 0.0,
        stomach=draw.lognormal(0.5, 1.4, 0.2, 1.2) if draw.chance(0.12) else draw.lognormal(0.06, 1.6, 0.03, 0.5),
        bowel=tuple(_sample_loop(draw) for _ in range(num_loops)),
        unevenness=draw.normal(0.06, 0.015, 0.03, 0.10),
        uneven_pattern=tuple(draw.normal(0, 1, -2.5, 2.5) for _ in range(6)),
    )


def _sample_loop(draw: Stream) -> BowelLoop:
    return BowelLoop(
        center_mm=(draw.uniform(-30, 110), draw.uniform(-70, -10), -abs(draw.normal(105, 28))),
        radius_mm=draw.uniform(9, 17),
        half_length_mm=draw.uniform(20, 55),
        angle_deg=draw.uniform(0, 180),
        uptake=draw.lognormal(0.7, 1.6, 0.2, 2.5),
    )


def _sample_defects(draw: Stream, dilated: bool) -> tuple[Defect, ...]:
    odds = (
        (0.25, 0.35, 0.30, 0.10) if dilated else (0.55, 0.33, 0.10, 0.02)
    )  # choice: about half of the patients have one
    free = dict(zip(TERRITORIES, (0.45, 0.32, 0.23), strict=True))  # LAD leads; choice
    defects = []
    for _ in range(draw.choice((0, 1, 2, 3), odds)):
        territory = draw.choice(tuple(free), tuple(free.values()))
        del free[territory]
        angle, level = TERRITORIES[territory]
        defects.append(
            Defect(
                territory=territory,
                angle_deg=(angle + draw.normal(0, 18)) % 360,
                level=draw.normal(level, 0.14, 0.15, 0.95),
                half_angle_deg=draw.normal(45, 14, 20, 75),
                half_length=draw.normal(0.28, 0.10, 0.14, 0.55),
                severity=draw.uniform(0.2, 0.95),
                scar=draw.uniform(0.6, 1.0) if draw.chance(0.35) else 0.0,
            )
        )
    return tuple(defects)


def _at_rest(defect: Defect) -> Defect:
    return replace(defect, severity=defect.severity * defect.scar, scar=1.0)
