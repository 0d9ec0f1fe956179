"""Benchmarks: this daemon beside libvirtd, on the same machine, in the same run. No assertion is timed."""
