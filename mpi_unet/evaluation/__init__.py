"""How good a mask is, against a reader's: pure functions on arrays.

Words of this room: a *frame* is one slice or view; a *case* is one acquisition and the unit of scoring; a *patient* is
the unit of every statistical claim. Pixels are counted once per frame (:mod:`~mpi_unet.evaluation.overlap`), summed
over the frames of a case, scored per case (:mod:`~mpi_unet.evaluation.scores`), averaged over the cases of a patient
and only then over patients (:mod:`~mpi_unet.evaluation.table`). What is *undefined* (NaN) or *infinite* has one policy
(:mod:`~mpi_unet.evaluation.policy`): it is counted and never dropped in silence.
"""
