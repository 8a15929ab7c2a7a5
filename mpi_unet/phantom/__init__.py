"""A simulated patient seen by a simulated gamma camera, with the truth known exactly.

The room makes arrays and nothing else: a heart in a torso (``heart``, ``torso``), the camera's projections
(``camera``), the reconstruction (``reconstruction``), the reoriented slices (``reorientation``), the true outlines
(``truth``) and readers who differ as people do (``readers``); ``study`` puts them in order. Every number comes from a
stream that depends on the cohort's seed and the patient alone (``random_streams``), so patient 17 is the same whoever
else is simulated.

Words and conventions:

- *world*: millimeters in LPS, the patient lying supine: x to the patient's left, y to the back, z to the head.
- *heart frame*: millimeters along (lateral, inferior, apical). ``apical`` is the long axis, 0 at the end-diastolic base
  plane and growing toward the apex. Seen from the apex, lateral points right and inferior points down.
- *wall angle*: degrees around the long axis, 0 anterior, 90 lateral, 180 inferior, 270 septal.
- *columns*: camera arrays are (y, x, z) or (y x, z), because every operation turns the (y, x) plane and carries z
  along.
- *contraction*: 0 at end diastole, 1 at end systole.
- *uptake*: concentration relative to normal myocardium, which is 1.
"""
