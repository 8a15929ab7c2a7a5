"""``python -m benchmarks [SUBJECT ...]``: measure, print, and with ``--docs`` keep the result and write its page."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.measure import CHECKOUT, Options, Row, as_json, machine

SUBJECTS = (
    *("training", "tutorial", "stacked", "distributed", "prediction", "dicom", "scoring"),
    *("agreement", "startup", "growth"),
    "nnunet",
)
"""In this order; nnunet takes most of an hour and is measured only when it is named."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", help=f"{' '.join(SUBJECTS)}; all but nnunet by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of training, stacked and prediction")
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 1, 2, 4], help="nnunet: budgets a fold")
    parser.add_argument("--folds", type=int, default=2, help="nnunet: folds")
    parser.add_argument("--patients", type=int, default=40, help="nnunet: patients")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="growth: patients")
    parser.add_argument("--docs", action="store_true", help="keep the figures in docs/ and write docs/performance.md")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    given = parser.parse_args()
    unknown = [name for name in given.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"no subject {', '.join(unknown)}; subjects: {', '.join(SUBJECTS)}")
    if given.quick and given.docs:
        parser.error("--quick measures nothing worth keeping; leave --docs out")
    if given.docs:
        from benchmarks import page  # what would fail at the end fails now
    results, failed = {}, []
    for name in given.subjects or [name for name in SUBJECTS if name != "nnunet"]:
        subject = importlib.import_module(f"benchmarks.{name}")
        sys.stdout.write(f"\n{subject.TITLE}\n")
        sys.stdout.flush()
        reason = subject.why_not() if hasattr(subject, "why_not") else ""
        if reason:
            sys.stdout.write(f"  not measured: {reason}\n")
            continue
        with tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-") as folder:
            options = Options(
                folder=Path(folder),
                quick=given.quick,
                device=given.device,
                minutes=tuple(given.minutes),
                folds=given.folds,
                patients=given.patients,
                sizes=tuple(given.sizes),
            )
            start, before = time.perf_counter(), machine()
            try:
                rows = subject.measure(options)
            except RuntimeError as error:  # a door that failed; the other subjects go on
                sys.stdout.write(f"  failed: {error}\n")
                failed.append(name)
                continue
            _say(rows)
            results[_key(name, given.device)] = {
                "title": subject.TITLE,
                "machine": before,
                "device": given.device,
                "minutes": round((time.perf_counter() - start) / 60, 1),
                "rows": as_json(rows),
            }
            if given.json:
                given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            if given.docs:
                page.keep({_key(name, given.device): results[_key(name, given.device)]}, CHECKOUT / "docs")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _key(name: str, device: str) -> str:
    return name if device == "cpu" else f"{name}_{device}"


def _say(rows: list[Row]) -> None:
    for row in rows:
        ratio = f"{row.ratio:7.2f} x {row.by:<6}" if row.ratio is not None else " " * 16
        wall = f"{row.wall_s:9.3f} s" if row.wall_s is not None else " " * 11
        cpu = f"{row.cpu_s:9.3f} CPU s" if row.cpu_s is not None else " " * 15
        more = "  ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.more.items()
        )
        sys.stdout.write(f"  {row.name:<46} {ratio} {wall} {cpu}  {more}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
