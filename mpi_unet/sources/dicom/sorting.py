"""Images that could become cases are told from those that cannot, one by one."""

from __future__ import annotations

from collections.abc import Iterable

from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.errors import DicomError
from mpi_unet.sources.dicom.choice import SAME_IDENTIFIER, Candidate, Decision, clashing_identifiers, refuse_clashes
from mpi_unet.sources.dicom.images import PixelFacts, as_detail, read_facts
from mpi_unet.sources.dicom.options import Options
from mpi_unet.sources.dicom.recognition import Recognized, recognized
from mpi_unet.sources.dicom.scan import Header, ScannedFile

__all__ = ["sorted_images"]

NO_PATIENT = "PatientID (0010,0020) says nobody: it is unknown whose image it is; see source.without_patient_id"


def sorted_images(
    files: Iterable[ScannedFile], options: Options, pseudonyms: Pseudonyms
) -> tuple[list[Candidate], list[Decision]]:
    """Read every tomographic image and say which of them may become cases.

    Args:
        files: Every file of the tree.
        options: The arguments.
        pseudonyms: For patients and identifiers.

    Returns:
        The candidates, and what became of all other files.

    Raises:
        CohortError: Files share an identifier and hold different pixels, and are not to be left out.
    """
    candidates: list[Candidate] = []
    left: list[Decision] = []
    read: list[tuple[ScannedFile, Header, str]] = []
    for file in files:
        if file.header is None:
            left.append(Decision(file, file.reason))
            continue
        try:
            pixels = read_facts(file.path, options.energy_window)
        except DicomError as error:
            left.append(Decision(file, "the image cannot be read", as_detail(error, file.path)))
            continue
        read.append((file, file.header, pixels.digest))
        seen = recognized(file.header, options.patterns, options.plane)
        reason = _reason(file.header, seen, pixels, options)
        if reason:
            left.append(Decision(file, reason))
        else:
            candidates.append(_candidate(file, file.header, seen, pixels, options, pseudonyms))
    clashes = clashing_identifiers(read)
    if options.same_identifier == "refuse":
        refuse_clashes(clashes)
    names = {file.name: [other.name for other in group] for group in clashes for file in group}
    clashing = [
        Decision(file, SAME_IDENTIFIER, f"of {', '.join(name for name in names[file.name] if name != file.name)}")
        for file, _, _ in read
        if file.name in names
    ]
    left = [decision for decision in left if decision.file.name not in names]
    return [one for one in candidates if one.file.name not in names], [*left, *clashing]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _reason(header: Header, seen: Recognized, pixels: PixelFacts, options: Options) -> str:
    """Why an image cannot become a case; empty when it can."""
    if not header.patient_id and (options.without_patient_id == "leave_out" or not header.study_uid):
        return NO_PATIENT
    if header.burned_in and not options.allow_burned_in:
        return f"{header.burned_in}: the pixels may show names; see source.allow_burned_in"
    if pixels.is_written and not options.allow_burned_in:
        return "its corners look as if something were written there; see source.allow_burned_in"
    if pixels.is_constant:
        return "all its pixels are equal"
    return seen.reason


def _candidate(
    file: ScannedFile,
    header: Header,
    seen: Recognized,
    pixels: PixelFacts,
    options: Options,
    pseudonyms: Pseudonyms,
) -> Candidate:
    # A study of an unknown patient must not meet the PatientID that happens to be equal to its UID.
    whose, issuer = (header.patient_id, header.issuer) if header.patient_id else (header.study_uid, "\0study")
    issuer = issuer if options.use_issuer or not header.patient_id else ""
    return Candidate(
        file=file,
        header=header,
        seen=seen,
        whose=whose,
        issuer=issuer,
        patient=pseudonyms.patient(whose, issuer),
        source_uid=pseudonyms.uid(header.instance_uid),
        pixels=pixels,
    )
