"""Point clouds: records, parametric shapes, rotations, features, baselines, metrics, what parts of a split share."""
