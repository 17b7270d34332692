"""Classifiers: texts in, calibrated `Scores` out. They know no HTTP and no actions."""
