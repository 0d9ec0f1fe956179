"""The same scripts through libvirt's virsh and through ours; what may differ is said in one table."""
