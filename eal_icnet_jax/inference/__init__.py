"""Prediction: images of any size to masks, and the files that hold them."""
