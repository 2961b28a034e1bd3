"""The science: the losses, in functional form and registered for configs."""
