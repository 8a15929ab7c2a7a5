"""A trained model for other programs: a MONAI Bundle, an ONNX file, and the model card that belongs to either.

``bundle`` writes the folder that MONAI runs, ``bundle_configs`` its inference and evaluation, ``bundle_metadata`` its
data contract; ``onnx`` writes one file for all networks; ``card`` says in Markdown and HTML what the model is, with the
numbers of its run; ``anonymous`` leaves out whose images they were. A cohort for other programs is written by
`mpi_unet.sources`.
"""
