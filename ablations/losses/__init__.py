"""The losses: formulas, functional forms, and the modules that configs name."""
