"""From data to a score table: tasks, presets, stages, the report."""
