"""mpi_unet: left-ventricle segmentation in SPECT myocardial perfusion images."""

__version__ = "0.1.0"
