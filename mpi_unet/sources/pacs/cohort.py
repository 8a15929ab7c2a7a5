"""The way from a question to a cohort: list, choose, fetch what is missing, verify, and hand on to ``source=dicom``.

What is said on the terminal counts and names nobody: no names, no ids, no dates, no identifiers of studies. Who wants
to know which study is meant finds its number in the private table ``<cohort>_private/retrieval.csv``.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mpi_unet.errors import ConfigError, PacsError, listing
from mpi_unet.files import read_json, write_json, write_text
from mpi_unet.sources.pacs.access import Address, OurSide, TlsFiles, parse_address, quiet, secrets_for
from mpi_unet.sources.pacs.archive import FoundObject, FoundStudy, Pacs, persistently
from mpi_unet.sources.pacs.query import TOMOGRAPHIC, Query
from mpi_unet.sources.pacs.retrieval import Retrieval

__all__ = ["pacs_cohort"]

GIVE_UP_AFTER = 3
"""So many studies in a row that fail because the archive cannot be reached: it is gone, and the rest can wait."""

TOLD_FROM = 3
"""A description is shown on the terminal when so many studies share it; rarer ones may say something of a person."""

COLUMNS = (
    "study",
    "study_uid",
    "date",
    "study_description",
    "series_uid",
    "sop_uid",
    "kind",
    "frames",
    "state",
    "problem",
)


def pacs_cohort(
    input: str,
    output: str | Path,
    *,
    since: str | int | None = None,
    until: str | int | None = None,
    modality: str = "NM",
    include: str | None = None,
    exclude: str | None = None,
    kinds: Sequence[str] = TOMOGRAPHIC,
    min_frames: int = 2,
    patients: str | Path | None = None,
    limit: int | None = None,
    list_only: bool = False,
    our_aet: str = "MPIUNET",
    retrieve: str = "auto",
    listen_host: str = "",
    listen_port: int | None = None,
    ca_file: str | Path | None = None,
    client_certificate: str | Path | None = None,
    client_key: str | Path | None = None,
    timeout_s: float | int = 120,
    retries: int = 3,
    dicom: Mapping[str, Any] | None = None,
) -> Path:
    """Make a cohort of studies of a PACS.

    Objects are retrieved to ``<output>_private/retrieved``; the same command fetches only what is missing there. Then
    `mpi_unet.sources.dicom.dicom_cohort` makes the cohort of that folder.

    Args:
        input: ``dicom://AET@host:port``, ``dicoms://AET@host:port`` or ``https://host/path``.
        output: Folder of the cohort.
        since: First day of the study, ``2024-01-31`` or ``20240131``; None for no beginning.
        until: Last day, included; None for no end.
        modality: Modality of the series.
        include: Regular expression, without regard to case, that the description of the study or series must match.
        exclude: Regular expression that neither may match.
        kinds: Kinds of image, value 3 of Image Type.
        min_frames: Objects with fewer frames are left.
        patients: Text file with one PatientID on each line; None for all patients.
        limit: Largest number of studies.
        list_only: Fetch nothing; write what would be fetched to a private table and say how much it is.
        our_aet: Our application entity title, as the PACS knows it.
        retrieve: ``auto``, ``get`` or ``move``.
        listen_host: Address at which we take what C-MOVE sends; empty for all of this machine.
        listen_port: Port for the same; None when the PACS cannot reach us.
        ca_file: Certificate of the authority that signed the server's; None for those of the system.
        client_certificate: Certificate of ours, where the server wants one.
        client_key: Its key.
        timeout_s: Seconds to wait for an answer.
        retries: Further attempts after a fault of the network.
        dicom: Options of ``source=dicom``.

    Returns:
        The cohort folder; with ``list_only`` the private table.

    Raises:
        ConfigError: An option cannot be used, or the extra ``pacs`` is not installed.
        PacsError: The archive cannot be reached or refuses us; nothing was found; or some studies could not be
            retrieved, in which case the cohort of the others is in place.
        RunError: The disk is full, or another process retrieves to the same place.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    query = Query.of_options(
        since=since,
        until=until,
        modality=modality,
        include=include,
        exclude=exclude,
        kinds=kinds,
        min_frames=min_frames,
        patients=patients,
        limit=limit,
    )
    if timeout_s <= 0 or retries < 0:
        raise ConfigError(
            f"source.timeout_s={timeout_s}, source.retries={retries}; expected more than 0, and 0 or more"
        )
    tls = TlsFiles(*(Path(path) if path else None for path in (ca_file, client_certificate, client_key)))
    pacs = _connect(
        parse_address(input), OurSide(our_aet, listen_host, listen_port), tls, retrieve, float(timeout_s), console
    )
    with Retrieval.entered(output) as retrieval:
        with quiet(), closing(pacs):
            plans = _work(pacs, query, None if list_only else retrieval, retries, console)
        table = retrieval.root / ("listing.csv" if list_only else "retrieval.csv")
        _write_table(table, plans)
        _say_counts(plans, console)
        chosen = [plan for plan in plans if plan.chosen]
        if not chosen and not any(plan.problem for plan in plans):
            raise PacsError(_nothing(plans, query))
        if list_only:
            return table
        return _prepared(Path(output), retrieval, plans, table, dict(dicom or {}))


def _prepared(output: Path, retrieval: Retrieval, plans: list[_Plan], table: Path, options: dict[str, Any]) -> Path:
    """The cohort of the complete studies; then an error when not all are."""
    failed = [plan for plan in plans if plan.problem]
    complete = {plan.study.uid for plan in plans if plan.chosen and not plan.problem}
    retrieval.set_others_aside(complete | {plan.study.uid for plan in failed})
    if complete:
        from mpi_unet.sources.dicom import dicom_cohort

        cohort = dicom_cohort(retrieval.complete, output, **options)
        _amend_account(Path(cohort), plans, len(failed))
    if failed:
        lines = [f"study {plan.number}: {plan.problem}" for plan in failed]
        made = f"The cohort of the other {len(complete)} is {output}. " if complete else ""
        raise PacsError(
            f"{len(failed)} of {len(complete) + len(failed)} studies could not be retrieved (their numbers are those "
            f"of {table}):\n{listing(lines)}\n{made}Give the same command again: it fetches only what is missing"
        )
    return output


# --- Private helpers: the archive -------------------------------------------------------------------------------------


def _connect(address: Address, ours: OurSide, tls: TlsFiles, way: str, timeout_s: float, console: Any) -> Pacs:
    if address.is_web:
        from mpi_unet.sources.pacs.dicomweb import WebPacs

        return WebPacs(address, secrets_for(address), tls=tls, timeout_s=timeout_s)
    from mpi_unet.sources.pacs.dimse import DimsePacs

    say = partial(console.print, markup=False)
    return DimsePacs(address, ours, way=way, tls=tls, timeout_s=timeout_s, say=say)


@dataclass
class _Plan:
    """What became of one study.

    Attributes:
        number: In the order of date and identifier; stands for the study on the terminal.
        study: As listed.
        chosen: SOP Instance UID to object.
        left: Reason in words to number of series or objects.
        problem: Why it could not be retrieved; empty when it could.
        missing: Which of the chosen objects are not there.
    """

    number: int
    study: FoundStudy
    chosen: dict[str, FoundObject] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    missing: set[str] = field(default_factory=set)


def _work(pacs: Pacs, query: Query, retrieval: Retrieval | None, retries: int, console: Any) -> list[_Plan]:
    """List and choose and, unless there is no retrieval, fetch; study by study, whatever becomes of the one before."""
    persistently(pacs.check, pacs, min(retries, 1))  # a mistyped port is said soon
    studies = _studies(pacs, query, retries)
    plans: list[_Plan] = []
    wanted = done = failures = 0
    with _progress(console, len(studies) if query.limit is None else min(query.limit, len(studies))) as advance:
        for number, study in enumerate(studies, 1):
            if query.limit is not None and wanted == query.limit:
                break
            plan = _Plan(number, study)
            plans.append(plan)
            try:
                _choose(pacs, query, plan, retries)
                if retrieval is not None and plan.chosen:
                    _fetch(pacs, plan, retrieval, retries)
                done, failures = done + bool(plan.chosen), 0
            except PacsError as error:
                plan.problem = str(error)
                failures += 1
                if failures == GIVE_UP_AFTER:
                    _give_up(pacs, error, number, len(studies), has_worked=done > 0)
            wanted += bool(plan.chosen or plan.problem)
            advance(bool(plan.chosen or plan.problem) if query.limit is not None else 1)
    return plans


def _give_up(pacs: Pacs, error: PacsError, number: int, total: int, *, has_worked: bool) -> None:
    """Stop when the archive is gone or nothing ever worked; go on when only these studies are at fault."""
    if not has_worked:
        raise PacsError(
            f"{error}. So it was with the first {GIVE_UP_AFTER} studies, and the rest was not tried"
        ) from None
    try:
        persistently(pacs.check, pacs, 0)
    except PacsError:
        raise PacsError(
            f"{error}. It was study {number} of {total}; what was retrieved is kept: give the same command again when "
            "the PACS is back, and it goes on from there"
        ) from None


def _studies(pacs: Pacs, query: Query, retries: int) -> list[FoundStudy]:
    """All studies that the question means, each once, by date."""
    found: dict[str, FoundStudy] = {}
    for patient in query.patients or ("",):
        windows = [(query.since, query.until)] if patient else query.windows()
        for first, last in windows:
            ask = partial(pacs.studies, first, last, query.modality, patient)
            for study in persistently(ask, pacs, retries):
                if query.wants_study(study):
                    found.setdefault(study.uid, study)
    return sorted(found.values(), key=lambda study: (study.date, study.uid))


def _choose(pacs: Pacs, query: Query, plan: _Plan, retries: int) -> None:
    """Decide series by series and object by object."""
    study = plan.study
    for series in persistently(partial(pacs.series, study.uid), pacs, retries):
        reason = query.why_not_series(study, series)
        if reason:
            plan.left[reason] += series.num_objects or 1
            continue
        objects = persistently(partial(pacs.objects, study.uid, series.uid), pacs, retries)
        if series.num_objects is not None and len(objects) < series.num_objects:
            raise PacsError(
                f"the PACS lists {len(objects)} of the {series.num_objects} objects of a series; it may cut answers "
                "short: its administrator can tell"
            )
        for found in objects:
            reason = query.why_not_object(found)
            if reason:
                plan.left[reason] += 1
            else:
                plan.chosen[found.uid] = found


def _fetch(pacs: Pacs, plan: _Plan, retrieval: Retrieval, retries: int) -> None:
    """Fetch what is missing of a study and see that all of it is there."""
    study_uid = plan.study.uid
    plan.missing = set(plan.chosen)

    def fetch_missing() -> None:
        missing = retrieval.missing(study_uid, plan.chosen)
        if missing:
            pacs.fetch(missing, lambda uid, content: retrieval.write(plan.chosen[uid], content))

    try:
        persistently(fetch_missing, pacs, retries)
    finally:
        plan.missing = {found.uid for found in retrieval.finish(study_uid, plan.chosen)}
    if plan.missing:
        raise PacsError(
            f"{len(plan.missing)} of {len(plan.chosen)} objects did not come, though the PACS lists them; its "
            "administrator can tell whether it still has them"
        )


# --- Private helpers: what is said ------------------------------------------------------------------------------------


def _nothing(plans: Sequence[_Plan], query: Query) -> str:
    if not plans:
        return (
            f"the PACS lists no study of the modality {query.modality} in this range of dates"
            f"{' of these patients' if query.patients else ''}; widen source.since, source.until or source.patients, "
            "and ask its administrator whether we may see all studies"
        )
    left = sum((plan.left for plan in plans), Counter[str]())
    reasons = [f"{reason}: {number}" for reason, number in sorted(left.items())]
    return (
        f"none of the objects in {len(plans)} studies is wanted:\n{listing(reasons)}\n"
        "Widen source.include, source.exclude, source.kinds or source.min_frames"
    )


def _write_table(path: Path, plans: Sequence[_Plan]) -> None:
    """One line for each chosen object, and one for each study without any."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    table.writeheader()
    for plan in plans:
        of_study = {
            "study": str(plan.number),
            "study_uid": plan.study.uid,
            "date": plan.study.date,
            "study_description": plan.study.description,
            "problem": plan.problem,
        }
        for found in plan.chosen.values():
            state = "missing" if found.uid in plan.missing else "chosen"
            frames = "" if found.num_frames is None else str(found.num_frames)
            of_object = {"series_uid": found.series_uid, "sop_uid": found.uid, "kind": found.kind, "frames": frames}
            table.writerow(of_study | of_object | {"state": state})
        if not plan.chosen:
            left = "; ".join(f"{reason}: {number}" for reason, number in sorted(plan.left.items()))
            table.writerow(of_study | {"state": plan.problem or left or "no objects"})
    write_text(path, text.getvalue())
    path.chmod(0o600)


def _say_counts(plans: Sequence[_Plan], console: Any) -> None:
    """Studies and objects by description, and what is left and why."""
    from rich.table import Table

    shared = Counter(plan.study.description for plan in plans)
    rows: dict[str, Counter[str]] = {}
    for plan in plans:
        if not plan.chosen:
            continue
        told = shared[plan.study.description] >= TOLD_FROM and plan.study.description
        row = rows.setdefault(plan.study.description if told else "(other descriptions)", Counter())
        row["studies"] += 1
        row.update(found.kind or "kind not said" for found in plan.chosen.values())
    kinds = sorted({kind for row in rows.values() for kind in row} - {"studies"})
    if rows:
        table = Table("description", "studies", *kinds)
        for description, row in sorted(rows.items()):
            table.add_row(description, *(str(row[column]) for column in ("studies", *kinds)))
        console.print(table)
    for reason, number in sorted(sum((plan.left for plan in plans), Counter[str]()).items()):
        console.print(f"left out: {number} ({reason})", markup=False)


@contextmanager
def _progress(console: Any, total: int) -> Iterator[Any]:
    """A progress bar on standard error when it is a terminal; nothing otherwise."""
    if not console.is_terminal:
        yield lambda steps: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("studies"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("studies", total=total)
        yield lambda steps: bar.advance(task, steps)


def _amend_account(cohort: Path, plans: Sequence[_Plan], num_failed: int) -> None:
    """Say in the account of the cohort that it comes from a PACS, and what stayed there."""
    path = cohort / "preparation.json"
    account = read_json(path) if path.is_file() else {"warnings": []}
    stayed = sum((plan.left for plan in plans), Counter[str]())
    account["source"] = "pacs"
    account["left_in_pacs"] = dict(sorted(stayed.items()))
    account["studies_not_retrieved"] = num_failed
    write_json(path, account)
