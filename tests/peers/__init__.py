"""Tests beside the programs that ours are to agree with."""
