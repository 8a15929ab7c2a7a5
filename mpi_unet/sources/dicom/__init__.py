"""``source=dicom``: a folder tree of DICOM files becomes a cohort.

``scan`` looks at files, ``words`` and ``recognition`` say what a study is, ``sorting`` which images may be cases,
``choice`` which of several become one, ``cases`` names them, ``images`` writes them; ``tree`` is the source itself.
"""

from mpi_unet.sources.dicom.tree import dicom_cohort

__all__ = ["dicom_cohort"]
