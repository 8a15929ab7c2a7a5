"""DICOM: studies as hospitals keep them.

Positions and directions are in LPS, the patient coordinates of DICOM: millimeters growing to the patient's left, back
and head. A *stack* is a reconstructed volume as slices, an *orbit* the way of the camera around the patient, a *view*
what the camera saw from one place of the orbit, a *gate* one part of the heartbeat. ``geometry`` says where slices
and views lie in the patient, ``codes`` holds the coded terms, ``nm`` reads Nuclear Medicine images and
``nm_writing`` writes them.

What goes out is made of an ``origin``, the image that it refers to: ``segmentation_writing`` makes segmentations of
masks, ``report_writing`` a structured report of measurements, ``capture_writing`` pictures and pages; ``derived`` is
what these share, and ``derived_codes`` holds their terms.
"""
