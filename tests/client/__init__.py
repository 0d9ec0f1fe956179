"""Tests of the client library and of the command."""
