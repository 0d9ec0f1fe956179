"""Whole processes, real guests."""
