# Completion of virtsnap in fish: share/fish/vendor_completions.d/virtsnap.fish. The command prints the rest itself.
command --query virtsnap; and virtsnap completion fish 2>/dev/null | source
