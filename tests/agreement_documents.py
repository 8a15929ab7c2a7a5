"""Builders of agreement.json contents: a small whole one, and random ones that any study could have left behind."""

from __future__ import annotations

import random
from typing import Any


def interval(low: float, high: float, level: float = 0.95) -> dict[str, Any]:
    return {"low": low, "high": high, "level": level, "method": "t over patients"}


def estimate(value: float | None, n: int, ends: dict[str, Any] | None) -> dict[str, Any]:
    return {"value": value, "n": n, "interval": ends}


def agreement_document(
    *,
    delta: tuple[float, float, float] | None = (-0.005, -0.012, 0.002),
    bootstrap: tuple[float, float] | None = None,
    readers: tuple[str, ...] = ("A", "B", "C"),
    n: int = 40,
    margin: float | None = 0.02,
    reader_interval: tuple[float, float] | None = (-0.03, 0.02),
    failures: int = 0,
    mode: str = "predictions",
    simulated: bool = False,
    **design: Any,
) -> dict[str, Any]:
    """A document whose primary difference and its ends are ``delta``; bootstrap-t gives the same by default."""
    ends = None if delta is None else interval(*delta[1:])
    check = ends if bootstrap is None else interval(*bootstrap)
    has_network, several = mode != "readers_only", len(readers) > 1
    compares = has_network and several
    block = {
        "P0": estimate(0.906, n, interval(0.89, 0.92)) if has_network else None,
        "Pn": estimate(0.923, n, interval(0.91, 0.93)) if several else None,
        "delta": None if delta is None or not compares else estimate(delta[0], n, ends),
        "delta_bootstrap_t": None if delta is None or not compares else estimate(delta[0], n, check),
        "ci_decision": ends if compares else None,
        "reader_interval": None if reader_interval is None or not compares else interval(*reader_interval),
        "n_left_out": 0,
        "per_patient": [],
    }
    return {
        "created": "2026-06-01T00:00:00+00:00",
        "mode": mode,
        "cohort": {"simulated_readers": simulated},
        "design": {
            "unit": "patient",
            "n_patients": n,
            "readers": list(readers),
            "n_readers": len(readers),
            "network_trained_on": [],
            "consensus_members": [],
            "blinded": True,
            "margin": margin,
            "margin_source": "a quarter of the readers' own disagreement",
            "margin_registered_at": "2026-01-10",
            "min_patients": 30,
            **design,
        },
        "scores": {"dice": {"by_pair": []}},
        "agreement": {"dice": block},
        "primary": "dice",
        "volume": None,
        "failures": {
            "kind": "below_readers",
            "definition": "p0 < pn - 0.10",
            "threshold": 0.10 if compares else 0.70,
            "k": failures,
            "n": n,
            "upper95": 1 - 0.05 ** (1 / n),
            "patients": [],
        },
    }


def random_document(rng: random.Random) -> dict[str, Any]:
    """A document of any mode with numbers near and far from the margin, and every gate open or shut."""
    center, half = rng.gauss(0, 0.02), abs(rng.gauss(0, 0.015))
    shift = rng.choice([0.0, 0.0, 0.0, rng.gauss(0, 0.01)])
    delta = rng.choice([(center, center - half, center + half)] * 9 + [None])
    n = rng.choice([1, 2, 8, 29, 30, 31, 60, 900])
    readers = tuple("ABCDEFG"[: rng.randint(1, 7)])
    wide = half + abs(rng.gauss(0, 0.01))
    document = agreement_document(
        delta=delta,
        bootstrap=None if delta is None else (delta[1] + shift, delta[2] + shift),
        readers=readers,
        n=n,
        margin=rng.choice([None, 0.02, 0.02, 0.02, 0.03, 0.005, 1e-4]),
        reader_interval=rng.choice([None, (center - wide, center + wide)]),
        failures=rng.randint(0, n),
        mode=rng.choice(["run", "predictions", "predictions", "readers_only"]),
        simulated=rng.random() < 0.2,
        unit=rng.choice(["patient"] * 15 + ["slice", "image"]),
        margin_registered_at=rng.choice([None, "", "2026-01-10", "2026-07-01", "3f9ac1e"]),
        margin_source=rng.choice([None, "literature", "literature"]),
        blinded=rng.choice([True, False, None]),
        network_trained_on=rng.choice([[], ["A"], ["X"]]),
        consensus_members=rng.choice([[], ["A", "B"]]),
        min_patients=rng.choice([30, 30, 50]),
        reader_facts=rng.choice([{}, random_facts(rng, readers)]),
    )
    if document["mode"] == "readers_only" and len(readers) < 2:
        document["design"]["readers"], document["design"]["n_readers"] = ["A", "B"], 2
    block = document["agreement"]["dice"]
    block["n_left_out"] = rng.choice([0, 0, 1, 7])
    if rng.random() < 0.05:
        block["delta_bootstrap_t"] = None
    if rng.random() < 0.2:
        worst = {"patients": rng.randint(1, 9), "k": rng.randint(0, n), "n": n, "upper95": rng.random()}
        document["failures"]["with_missing"] = worst
    if rng.random() < 0.1:
        document["failures"] = None
    if rng.random() < 0.3:
        document["volume"] = random_volume(rng, n)
    return document


ROLES = (
    "cardiologist",
    "cardiologist",
    "cardiologist",
    "",
    "MD, PhD",
    "equivalent",
    "as good as it gets",
    "proven",
    "no",
)
"""Plain ones, none, and some that must not find their way into a sentence."""


def random_facts(rng: random.Random, readers: tuple[str, ...]) -> dict[str, Any]:
    """Roles: one of all readers, or one of each."""
    common = rng.choice(ROLES)
    return {reader: {"role": common if rng.random() < 0.8 else rng.choice(ROLES)} for reader in readers}


def random_volume(rng: random.Random, n: int) -> dict[str, Any]:
    bias, half = rng.gauss(0, 5), abs(rng.gauss(0, 3))
    return {
        "available": rng.random() < 0.9,
        "pairs": [
            {
                "a": "network",
                "b": "mean of readers",
                "bias": estimate(bias, n, interval(bias - half, bias + half)),
                "limits": {
                    "low": estimate(bias - 10, n, interval(bias - 12, bias - 8)),
                    "high": estimate(rng.choice([bias + 10, None]), n, None),
                },
                "tost": {"margin_pct": 5.0, "p": 0.01, "interval": interval(-2, 2), "inside": rng.random() < 0.5},
            }
        ],
    }
