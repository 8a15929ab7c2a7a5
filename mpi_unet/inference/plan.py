"""The plan of a prediction: the studies of an input, one after the other, through the networks of a run.

Studies are read ahead by a thread, and measured and written by others (`workers`), while the networks work; only a few
are in memory at a time. Each study ends with a result of its own (`study`), so the same command goes on where it was
stopped, shards run side by side and in any order, and a study that cannot be segmented stops nobody.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet import __version__
from mpi_unet.errors import RunError, listing
from mpi_unet.files import read_json, waiting_lock, write_json
from mpi_unet.inference.options import Options, Shard

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mpi_unet.inference.dicom_options import DicomOptions
    from mpi_unet.inference.inputs import Input, Study
    from mpi_unet.inference.model import TrainedModel
    from mpi_unet.inference.results import StudyResult
    from mpi_unet.inference.runtimes import Runner
    from mpi_unet.inference.study import Prepared

__all__ = ["Predictions", "predict"]

RECORD = "prediction.json"
"""Says which run and options a folder of predictions belongs to; its presence makes the folder ours."""

OURS = (
    *("studies", "masks", "probabilities", "hearts", "short_axis", "dicom"),
    *("predictions.csv", "measurements.csv", "segments.csv", "curves.csv", "differences.csv", "dicom.csv", RECORD),
    *("flags.csv", "worklist.csv"),
    *("pages", "index.html"),
)
"""What ``overwrite`` removes: nothing that somebody else put there, and not the cohort, which may have taken hours."""

AHEAD = 8
"""Studies that are read ahead: enough to bridge a slow file, and little memory."""

REMEMBERED = 20
"""Studies that are named when they could not be segmented; the table names them all."""


@dataclass(frozen=True)
class Predictions:
    """What became of the studies.

    Attributes:
        output: The folder.
        table: ``predictions.csv``.
        counts: Status to number, over all shards that have run.
        not_segmented: Of this shard: name and reason of what was refused or failed, the first ones.
        num_not_segmented: Of this shard.
        not_sent: Images of which DICOM objects that were asked for are not there, with the reason; the first ones.
        num_not_sent: How many.
        num_refused: Images of which an archive did not take all that was sent; later it may.
        dicom_counts: Status to number of images; empty when no DICOM was asked for.
        worklist: ``index.html``; None when no pages were asked for.
    """

    output: Path
    table: Path
    counts: Mapping[str, int]
    not_segmented: tuple[str, ...]
    num_not_segmented: int
    not_sent: tuple[str, ...] = ()
    num_not_sent: int = 0
    num_refused: int = 0
    dicom_counts: Mapping[str, int] = field(default_factory=dict)
    worklist: Path | None = None


def predict(
    run: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    source: Mapping[str, Any] | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    options: Options | None = None,
    dicom: DicomOptions | None = None,
    pages: bool = True,
    runner: Runner | None = None,
    normals: Sequence[str | Path] = (),
    protocol: str = "",
) -> Predictions:
    """Segment and measure every study of an input.

    Args:
        run: The folder that ``train`` left behind.
        input: A cohort folder, or what ``source`` reads.
        output: Folder of the masks, results and tables.
        source: ``_target_`` and arguments of a source of ``conf/source`` that makes ``input`` a cohort; None for DICOM.
        shard: ``"0/8"``: the first of eight parts of the studies; None for all of them.
        overwrite: Throw away what an earlier prediction left in ``output``.
        progress: Show a bar on the terminal.
        options: How; None for the defaults.
        dicom: What goes out as DICOM; None for nothing.
        pages: Write a page for each study, and the worklist.
        runner: Of the run and options, for who predicts often; None to open them.
        normals: Files of ``prepare normals=...``, or folders of them, that uptake is compared with; empty for none.
        protocol: Of the studies, in the words of these files.

    Returns:
        What became of the studies; whether all of them were segmented is for the caller to look at.

    Raises:
        MpiUnetError: The run, the input or the output cannot be used. A single study never raises.
    """
    options = options or Options()
    part, output = Shard.of(shard), Path(output)
    from mpi_unet.inference.inputs import open_input
    from mpi_unet.inference.model import open_model
    from mpi_unet.inference.perfusion import Normals
    from mpi_unet.inference.runtimes import Runner
    from mpi_unet.inference.tables import PREDICTIONS, write_tables

    if dicom is not None:
        dicom.check_input(str(input))
    known_normals = Normals.read(normals, protocol) if normals else None
    runner = runner or Runner(open_model(run), options.runtime, options.device)
    model = runner.model
    _enter(output, model, options, overwrite=overwrite)
    given = open_input(input, output, domain=model.domain.domain, source=source)
    bad: list[str] = []
    number_bad = 0
    with _bar(given, part, shown=progress) as advance:
        for result in _results(given, part, runner, output, options):
            if result.status != "segmented":
                number_bad += 1
                bad += [f"{result.study_id}: {result.status}, {result.reason}"][: REMEMBERED - len(bad)]
            advance()
    others = [other for other in given.others if other.is_missed] if part.index == 0 else []
    bad += [f"{other.name}: {other.status}, {other.reason}" for other in others[: REMEMBERED - len(bad)]]
    counts = write_tables(given, output, known_normals)
    worklist = None
    with_surfaces = options.measurements == "cardiac"
    if pages:
        from mpi_unet.inference.pages import write_pages

        worklist = write_pages(given, output, model.facts, with_surfaces=with_surfaces, num_workers=options.num_workers)
    if given.error is not None:
        raise given.error
    made = Predictions(
        output, output / PREDICTIONS, dict(counts), tuple(bad), number_bad + len(others), worklist=worklist
    )
    if dicom is None or not dicom.kinds:
        return made
    from mpi_unet.inference.dicom_images import DicomInput
    from mpi_unet.inference.dicom_out import REFUSED, write_dicom_results

    images = DicomInput.of(input, output, source)
    statuses: Counter[str] = Counter()
    missed: list[str] = []
    for image in write_dicom_results(
        given, images, output, model.facts, dicom, with_surfaces=with_surfaces, num_workers=options.num_workers
    ):
        statuses[image.status] += 1
        if image.is_missed:
            missed.append(f"{image.study}: {image.status}, {image.reason}")
    return replace(
        made,
        not_sent=tuple(missed[:REMEMBERED]),
        num_not_sent=len(missed),
        num_refused=statuses[REFUSED],
        dicom_counts=dict(statuses),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _results(given: Input, part: Shard, runner: Runner, output: Path, options: Options) -> Iterator[StudyResult]:
    """The result of each study of a shard, as they are finished."""
    from mpi_unet.inference.results import StudyResult
    from mpi_unet.inference.study import prepare_study, probabilities
    from mpi_unet.inference.workers import Finisher, num_finishers

    wanted = (study for position, study in enumerate(given.studies()) if part.takes(position))
    learnt, domain = runner.model.learnt, runner.model.domain.domain
    number = num_finishers(options, learnt, len(given) // part.number, domain)
    finisher = Finisher(number, learnt, output, options)
    reader = ThreadPoolExecutor(1, thread_name_prefix="reading")
    group: list[Prepared] = []

    def segment() -> None:
        for prepared, answer in zip(group, probabilities(group, runner, options), strict=True):
            finisher.add(prepared.read, answer)
        group.clear()

    def prepare(study: Study) -> Prepared | StudyResult:
        return prepare_study(study, runner.model, output, options)

    try:
        for one in _ahead(reader, prepare, wanted):
            if isinstance(one, StudyResult):
                yield one
                continue
            group.append(one)
            if sum(member.image.shape[1] for member in group) >= options.batch_size:
                segment()
            while finisher.is_full:
                yield finisher.next()
        if group:
            segment()
        while len(finisher):
            yield finisher.next()
    finally:
        reader.shutdown(cancel_futures=True)
        finisher.close()


def _ahead(pool: ThreadPoolExecutor, work: Any, items: Iterator[Any]) -> Iterator[Any]:
    """What the work makes of each item, in their order, begun a few items ahead."""
    begun: deque[Future[Any]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _enter(output: Path, model: TrainedModel, options: Options, *, overwrite: bool) -> None:
    """Begin a folder of predictions, or go on with the one that the same run and options left behind.

    Raises:
        RunError: It belongs to another run or other options, or holds something else.
    """
    record = {
        "schema_version": "1.0.0",
        "mpi_unet": __version__,
        "run": model.name,
        "networks": model.key,
        "threshold": model.threshold,
        "folds": list(model.folds),
        "label": model.domain.label,
        "domain": model.domain.domain,
        "trained_on": model.facts.trained_on,
        "options": asdict(options),
        "key": options.key(),
    }
    file = output / RECORD
    with waiting_lock(output / ".lock"):
        if file.is_file() and overwrite:
            for name in OURS:
                path = output / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        if file.is_file():
            _refuse_other_record(output, read_json(file), record)
            return
        foreign = [
            path.name for path in output.iterdir() if path.name != ".lock" and not path.name.startswith(".part-")
        ]
        if foreign:
            raise RunError(
                f"output={output} holds {len(foreign)} things that predict did not make "
                f"({', '.join(sorted(foreign)[:3])}); choose another output, or empty it"
            )
        write_json(file, record)


def _refuse_other_record(output: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    differing = [
        f"{key} was {old.get(key)}, is now {new[key]}" for key in ("run", "networks") if old.get(key) != new[key]
    ]
    if old.get("key") != new["key"]:
        before = old.get("options") or {}
        free = {"batch_size", "device", "num_workers"}
        differing += [
            f"{name} was {before.get(name)}, is now {value}"
            for name, value in new["options"].items()
            if name not in free and before.get(name) != value
        ]
    if differing:
        raise RunError(
            f"output={output} holds predictions made otherwise:\n{listing(differing)}\nChoose another output, or throw "
            "them away with overwrite=true"
        )


@contextmanager
def _bar(given: Input, part: Shard, *, shown: bool) -> Iterator[Any]:
    """A bar on the terminal that moves with every call; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar: Progress = Bar(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
    with bar:
        task: TaskID = bar.add_task("studies", total=len(range(part.index, len(given), part.number)))
        yield lambda: bar.advance(task)
