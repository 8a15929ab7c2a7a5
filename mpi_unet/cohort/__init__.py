"""The cohort: cases of patients on disk, how they are divided, and the guards against dividing them wrongly.

A *patient* is the person, a *case* one acquisition of that person, a *frame* one slice of a volume or one view of a
projection set, a *reader* a human who outlined. ``case`` and ``table`` hold what is in the tables, ``nifti`` reads and
writes pixels, ``checks`` finds what is wrong with a case, ``fold`` holds a frozen division of the patients,
``splits`` draws one, ``leakage`` looks for what it does not keep apart, by the measure of ``likeness``.
"""
