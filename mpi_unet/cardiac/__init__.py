"""Measurements of the left ventricle: axis, surfaces, volumes, wall, polar map, phase.

Pure functions on arrays. A *wall mask* outlines the myocardium, a *cavity mask* the blood inside it; the *valve plane*
closes the cavity at the base. Heart axes are right-handed: the *long axis* points from base to apex. Lengths are in
mm, volumes in ml, mass in g, ejection fraction and thickening in percent. What a study cannot give is None or raises,
and is never guessed.
"""
