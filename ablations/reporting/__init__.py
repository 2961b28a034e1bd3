"""Reports: markdown, CSV, LaTeX, figures, W&B uploads and dashboards."""
