"""The report's figures: functions from arrays and frames to axes, one subject a module."""
