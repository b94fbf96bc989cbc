"""Mathematics of the alarm: statistics, bounds, thresholds, calibration. Pure."""
