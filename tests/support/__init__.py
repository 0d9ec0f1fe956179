"""Fakes and tools of the tests."""
