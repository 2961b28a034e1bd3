"""The report's figures: functions that draw arrays and frames on axes."""
