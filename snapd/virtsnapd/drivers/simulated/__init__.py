"""Guests that exist in memory only: libvirt's test driver, and the reference for what every driver does."""
