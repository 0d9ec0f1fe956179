# Completion of virtsnap in bash: share/bash-completion/completions/virtsnap. The command prints the rest itself.
eval "$(virtsnap completion bash 2>/dev/null)"
