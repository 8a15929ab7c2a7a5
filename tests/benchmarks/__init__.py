"""Speed and memory as ratios to a baseline in the same run: ``make bench``, or ``python -m benchmarks`` in ``tests/``.

A *subject* is a module with a ``TITLE`` and ``measure(options) -> list[Row]``. Baseline and candidates take turns, and
medians are compared, so that a machine that slows down in the middle slows down both. A ratio above 1 means faster than
the baseline. Our side is always run through the doors, as a user runs it, and never through functions of its inside.
"""
