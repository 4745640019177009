"""Fields on the sphere: what a sample is, how it is measured, beside what, and how it is drawn."""
