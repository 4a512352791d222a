"""Studies: many trainings that differ in a few settings and the seed, and the table of their scores."""
