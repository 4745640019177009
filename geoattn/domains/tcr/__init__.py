"""T-cell receptors and epitopes: chains, sequence features, negatives, models, baselines, metrics, pictures."""
