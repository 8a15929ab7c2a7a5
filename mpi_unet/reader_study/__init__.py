"""The plan of an agreement analysis: from the masks of a cohort to ``agreement.json`` and its page.

A *study* compares the *panel* - the readers whose outlines are set against one another - and, unless it is about the
readers only, a network: out-of-fold masks of a run, a folder of masks from anywhere, or a column of the cohort. Its
numbers come from :mod:`mpi_unet.evaluation` and :mod:`mpi_unet.agreement`; here is decided what is compared with what,
and said what was left out.
"""
