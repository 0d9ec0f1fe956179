"""The QEMU driver: real guests over QMP, their disks through qemu-img."""
