"""Images of scenes from several places: records, scenes to try things on, baselines and metrics."""
