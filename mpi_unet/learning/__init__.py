"""Learning: from cases to a trained network.

A *sample* is what the network sees at once: a frame (2-D networks) or a case (3-D networks). *Deterministic*
transforms run once per case and are kept; *random* transforms run anew for every sample of every epoch, seeded by
(seed, epoch, sample), so that neither the number of workers nor an interruption changes what the network sees.
"""
