"""Tests of what is installed for systemd."""
