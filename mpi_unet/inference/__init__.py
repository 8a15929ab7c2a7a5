"""Studies in, masks, measurements and a table of what became of each study out.

A *study* is one case of a cohort: one image to be segmented. ``inputs`` says what the studies of an input are,
``model`` what a run has learnt, ``runtimes`` runs its networks, ``study`` is the unit of work, ``finishing`` its part
after the networks, ``results`` its end; ``measures`` and ``quality`` look at a mask, ``plan`` goes over all studies,
``workers`` are the processes that help it, ``tables`` writes what became of the studies.
"""

from mpi_unet.inference.plan import predict

__all__ = ["predict"]
