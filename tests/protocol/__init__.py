"""The contract: sans-I/O."""
