"""The command ``virtsnap``: virsh's commands, spelling and output, spoken to virtsnapd."""
