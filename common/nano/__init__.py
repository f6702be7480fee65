"""Pretraining of the small models: what they read."""
