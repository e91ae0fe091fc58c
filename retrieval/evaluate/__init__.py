"""Measuring retrieval with captioned images: both directions, every language, models, indexes, failures."""
