"""Read tens of thousands of damaged Nuclear Medicine files and count what becomes of them.

    python tests/fuzz_nm.py --files 20000 --seed 0

Each file is made from a whole one by a seeded mutation (``nm_mutations``) and read in a process of its own, with a
limit on its memory and on the time that one file may take. A file must either give a ``DicomError`` that names the
file and says what was expected, or be read. What is read is compared with the whole file: the same volume at the same
place, or what differs. Any other exception, a warning that leaks, the end of the process or a file that takes too long
is a failure; it is kept in the folder of ``--keep``, and the exit status is 1. ``--first N --files 1`` repeats one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import os
import re

from nm_mutations import Origin, mutated, origins

from mpi_unet.dicom.nm import NmImage, decoders, read_header, read_nm
from mpi_unet.errors import DicomError

FILE_SECONDS = 30.0
DECODE_SECONDS = 10.0
MEMORY_BYTES = 4 << 30
TAG = re.compile(r"\([0-9A-F]{4},[0-9A-F]{4}\)")


def outcome_of(path: Path, whole: NmImage) -> str:
    """Read a damaged file and say in a few words what came of it; exceptions that are no `DicomError` pass."""
    try:
        read_header(path)
    except DicomError as error:
        checked(error, path)
    try:
        image = read_nm(path)
    except DicomError as error:
        checked(error, path)
        return "typed error with tag" if TAG.search(str(error)) else "typed error about the file"
    return comparison(image, whole)


def checked(error: DicomError, path: Path) -> None:
    """What an error must say."""
    text = str(error)
    assert path.name in text, text
    assert "expected" in text or "choose" in text, text
    assert len(text) < 4000, text[:300]


def comparison(image: NmImage, whole: NmImage) -> str:
    """How what was read differs from the whole file."""
    if image.kind != whole.kind:
        return f"read: {whole.kind} as {image.kind}"
    said = []
    if image.values.shape != whole.values.shape:
        said.append("shape")
    elif not np.array_equal(image.values, whole.values):
        said.append("order of frames" if np.array_equal(frame_sums(image), frame_sums(whole)) else "pixels")
    if (image.affine_ras is None) != (whole.affine_ras is None):
        said.append("geometry unknown" if image.affine_ras is None else "geometry known")
    elif image.affine_ras is not None and not np.allclose(image.affine_ras, whole.affine_ras):
        said.append("place")
    if image.spacing_mm != whole.spacing_mm and "place" not in said:
        said.append("spacing")
    if image.angles_deg != whole.angles_deg:
        said.append("angles")
    if not said:
        return "read: the same"
    return (
        "read with "
        + " and ".join(f"other {what}" if "geometry" not in what else what for what in said)
        + (", warned" if set(image.warnings) - set(whole.warnings) else "")
    )


def frame_sums(image: NmImage) -> np.ndarray:
    """What stays the same when frames change their places."""
    return np.sort(image.values.sum((-1, -2), dtype=np.float64).ravel())


def serve(pipe: Connection, real_folder: Path | None, seed: int) -> None:
    """Take numbers of files, make and read them, answer what came of each."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("error")
    decoders.DECODE_SECONDS = DECODE_SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = _whole(folder, real_folder)
        pipe.send(len(whole))
        for number in iter(pipe.recv, None):
            how, content = _made(number, whole, seed)
            path = folder / "damaged.dcm"
            path.write_bytes(content)
            start = time.monotonic()
            try:
                said = outcome_of(path, whole[number % len(whole)][1])
            except Exception as error:
                said = f"FAILURE {type(error).__name__}: {str(error)[:300]}"
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pipe.send((how, said, time.monotonic() - start, peak_mib))


def _whole(folder: Path, real_folder: Path | None) -> list[tuple[Origin, NmImage]]:
    found = []
    for origin in origins(folder, real_folder):
        path = folder / "whole.dcm"
        path.write_bytes(origin.content)
        found.append((origin, read_nm(path)))
    return found


def _made(number: int, whole: list[tuple[Origin, NmImage]], seed: int) -> tuple[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mutated(whole[number % len(whole)][0], np.random.default_rng([seed, number]))


def say(text: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run, report, and say by the exit status whether all files ended as they must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to repeat one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", default="", help="say how each file was damaged that ended like this")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the files that failed")
    arguments = parser.parse_args()
    real = os.environ.get("MPI_UNET_TEST_DATA")
    real_folder = Path(real) if real else None
    context = multiprocessing.get_context("spawn")
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    slowest, peak, restarts = 0.0, 0.0, 0
    process = None
    began = time.monotonic()
    for number in range(arguments.first, arguments.first + arguments.files):
        if process is None:
            pipe, other = context.Pipe()
            process = context.Process(target=serve, args=(other, real_folder, arguments.seed), daemon=False)
            process.start()
            other.close()
            num_origins = pipe.recv()
        pipe.send(number)
        try:
            if not pipe.poll(FILE_SECONDS):
                said = "FAILURE hang"
            else:
                how, said, seconds, mib = pipe.recv()
                slowest, peak = max(slowest, seconds), max(peak, mib)
        except (EOFError, ConnectionResetError):
            said = "FAILURE crash of the process"
        if arguments.show and said.startswith(arguments.show):
            say(f"{number}: {how}: {said}")
        outcomes[said.split(":")[0] if said.startswith("FAILURE") else said] += 1
        if said.startswith("FAILURE"):
            failures.append(f"{number}: {said}")
            say(failures[-1])
            if said in ("FAILURE hang", "FAILURE crash of the process"):
                process.kill()
                process.join()
                process, restarts = None, restarts + 1
    if process is not None:
        pipe.send(None)
        process.join()
    seconds = time.monotonic() - began
    say(f"{arguments.files} files from {num_origins} whole ones in {seconds:.0f} s, seed {arguments.seed}")
    for what, count in outcomes.most_common():
        say(f"{count:7d}  {what}")
    typed = sum(count for what, count in outcomes.items() if what.startswith("typed"))
    read = sum(count for what, count in outcomes.items() if what.startswith("read"))
    say(f"typed errors {typed}, read {read}, failures {len(failures)} (process restarted {restarts} times)")
    say(f"slowest file {slowest:.2f} s, peak memory of the process {peak:.0f} MiB")
    if arguments.keep and failures:
        _keep(arguments.keep, [int(line.split(":")[0]) for line in failures], real_folder, arguments.seed)
    return 1 if failures else 0


def _keep(folder: Path, numbers: list[int], real_folder: Path | None, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        whole = _whole(Path(name), real_folder)
    for number in numbers:
        (folder / f"{seed}-{number}.dcm").write_bytes(_made(number, whole, seed)[1])


if __name__ == "__main__":
    sys.exit(main())
