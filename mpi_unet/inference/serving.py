"""Waiting for studies: whatever is sent to us is segmented and, where asked for, sent on; one bad study stops no other.

::

    <output>/queue/     what arrived, is worked on, is done or failed (`mpi_unet.sources.pacs.listener`)
    <output>/results/<study>/   the prediction of each study, as the door leaves it for a folder

The networks are opened once. A study whose objects an archive did not take is sent again later, without anything being
computed twice. One that could not be segmented, or of which objects could not be made, ends in ``queue/failed`` with
its reason; moved back to ``queue/incoming``, it goes on from there. The process ends on SIGTERM or SIGINT after the
study at hand; what is waiting then is worked on when it is started again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi_unet.errors import ConfigError, PacsError, PredictionError, listing
from mpi_unet.inference.dicom_options import DicomOptions
from mpi_unet.inference.options import Options

__all__ = ["serve"]

QUEUE, RESULTS = "queue", "results"


def serve(
    run: str | Path,
    output: str | Path,
    dicom: DicomOptions,
    *,
    options: Options | None = None,
    source: Mapping[str, Any] | None = None,
    normals: Sequence[str | Path] = (),
    protocol: str = "",
    pages: bool = True,
    say: Callable[[str], None] = lambda text: None,
    stop: threading.Event | None = None,
) -> None:
    """Work on studies that are sent to us.

    Args:
        run: The folder that ``train`` left behind.
        output: Folder of the queue and the results.
        dicom: Where we listen, and what goes out.
        options: How studies are segmented; None for the defaults.
        source: Options of ``source=dicom``; None for its defaults.
        normals: As for `mpi_unet.inference.predict`.
        protocol: Likewise.
        pages: Likewise.
        say: Told what happens: counts, never identifiers.
        stop: Set to end; None for signals to this process alone.

    Raises:
        ConfigError: The address cannot be listened at, or ``source`` reads no DICOM files.
        BusyError: Another process works on the queue.
        MpiUnetError: The run or the output cannot be used. A single study never raises.
    """
    from mpi_unet.inference.inputs import DEFAULT_SOURCE

    place = dicom.listening_at()
    if source is not None and source.get("_target_") != DEFAULT_SOURCE:
        raise ConfigError("serve= takes DICOM images; use source=dicom, or leave out source=")
    options = options or Options()
    output = Path(output)
    from mpi_unet.dicom.identity import DEFAULT_KEY_FILE, Pseudonyms
    from mpi_unet.inference.model import open_model
    from mpi_unet.inference.plan import predict
    from mpi_unet.inference.runtimes import Runner
    from mpi_unet.sources.pacs.access import OurSide
    from mpi_unet.sources.pacs.listener import Queue, listening, work_through

    runner = Runner(open_model(run), options.runtime, options.device)
    pseudonyms = Pseudonyms.from_key_file((source or {}).get("key_file") or DEFAULT_KEY_FILE)

    def work(study: Path) -> None:
        name = f"S{pseudonyms.word('study', study.name)}"
        made = predict(
            run,
            study,
            output / RESULTS / name,
            source=source,
            options=options,
            dicom=dicom,
            runner=runner,
            normals=normals,
            protocol=protocol,
            pages=pages,
        )
        lines = [*made.not_segmented, *made.not_sent]
        if made.num_refused:
            raise PacsError(f"{listing(lines)}\nWhat was made is in {output / RESULTS / name}")
        if lines:
            raise PredictionError(f"{listing(lines)}\nWhat could be done is in {output / RESULTS / name}")

    ours = OurSide(place.aet, place.host, place.port)
    network = dicom.network
    with (
        Queue.entered(output / QUEUE, quiet_s=float(network.quiet_s)) as queue,
        listening(queue, ours, callers=tuple(network.callers)) as port,
        _stopped_by_signals(stop or threading.Event()) as ending,
    ):
        say(f"listening as {place.aet} at port {port}; {queue.num_studies('incoming')} studies are waiting")
        work_through(queue, work, stop=ending, say=say)
        say(f"ended; {queue.num_studies('incoming')} studies are waiting")


# --- Private helpers --------------------------------------------------------------------------------------------------


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """Set the event when the process is told to end; outside the main thread signals are somebody else's."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, lambda *_: stop.set()) for kind in kinds}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
