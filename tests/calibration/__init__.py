"""Tests of medrecon.calibration."""
