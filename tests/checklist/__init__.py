"""The lines of libvirt's rules, each with the tests that prove it here: see tests/support/checklist.py."""
