"""Studies of a PACS, the image archive of a hospital, become a cohort.

An archive holds *studies* (one visit of a patient), these *series*, these *objects* (for SPECT one multi-frame image
each). It is asked in one of two languages: *DIMSE*, spoken by every archive since 1993, in which C-FIND lists and
C-GET or C-MOVE fetches; and *DICOMweb*, in which QIDO lists and WADO fetches over HTTP. What is wanted is chosen object
by object before anything is fetched; what was fetched stays in a private folder beside the cohort, so that a command
that was interrupted goes on where it stopped.

``storing`` sends new objects to an archive, and ``listener`` takes studies that an archive sends on its own.
"""

from mpi_unet.sources.pacs.cohort import pacs_cohort

__all__ = ["pacs_cohort"]
