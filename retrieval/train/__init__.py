"""Contrastive training. In this version: projections on top of frozen, packaged towers."""
