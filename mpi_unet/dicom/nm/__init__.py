"""Nuclear Medicine images (DICOM PS3.3 C.8.4), read by their own rules.

``file`` opens a file within bounds, ``elements`` gives typed access to its attributes; ``kind``, ``frames``,
``geometry``, ``rotation`` and ``views`` say what the attributes mean, ``pixels`` and ``decoders`` unpack the pixels,
``header`` is what a scan of many files needs, and ``image`` puts all of it together.
"""

from mpi_unet.dicom.nm.header import NmHeader, read_header
from mpi_unet.dicom.nm.image import NmImage, read_nm
from mpi_unet.dicom.nm.kind import NmKind
from mpi_unet.dicom.nm.pixels import RealWorldMapping

__all__ = ["NmHeader", "NmImage", "NmKind", "RealWorldMapping", "read_header", "read_nm"]
