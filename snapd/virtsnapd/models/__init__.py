"""Documents and pure rules: domains, snapshots and their forest; no input or output, nothing asynchronous."""
