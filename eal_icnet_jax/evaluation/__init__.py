"""Evaluation of predictions against labels, and inspection of datasets."""
