"""``source=outlines``: what readers drew, in any of its forms, is added to a cohort.

``files`` tells the forms apart, ``tables`` reads contours in CSV, ``json_files`` LabelMe and COCO, ``drawn`` turns a
drawing into a mask on the grid of its image, ``gathering`` finds image and reader of each drawing; ``added`` is the
source itself.
"""

from mpi_unet.sources.outlines.added import outlines_cohort

__all__ = ["outlines_cohort"]
