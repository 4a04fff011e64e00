"""Formats of published SAEs, one a file."""
