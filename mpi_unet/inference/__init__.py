"""Studies in, masks, measurements and a table of what became of each study out.

A *study* is one case of a cohort: one image to be segmented. ``inputs`` says what the studies of an input are,
``model`` what a run has learnt, ``runtimes`` runs its networks, ``study`` is the unit of work, ``components`` and
``measures`` look at a mask, ``plan`` goes over all studies, ``tables`` writes what became of them.
"""

from mpi_unet.inference.plan import predict

__all__ = ["predict"]
