"""Sources: something out there becomes a cohort folder on disk."""
