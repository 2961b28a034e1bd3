"""From tables to what people read: markdown, CSV, LaTeX, figures, W&B dashboards."""
