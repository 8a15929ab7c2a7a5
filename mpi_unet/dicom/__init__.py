"""DICOM: studies as hospitals keep them.

Positions and directions are in LPS, the patient coordinates of DICOM: millimeters growing to the patient's left, back
and head. A *stack* is a reconstructed volume as slices, an *orbit* the way of the camera around the patient, a *view*
what the camera saw from one place of the orbit, a *gate* one part of the heartbeat. ``geometry`` says where slices
and views lie in the patient, ``codes`` holds the coded terms, ``nm`` reads Nuclear Medicine images and
``nm_writing`` writes them.
"""
