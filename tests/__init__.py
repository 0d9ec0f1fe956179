"""Tests of virtsnap; the folders mirror those of the product."""
