#!/bin/sh
# Run a program in this mount namespace, which must be one of its own, with cgroup v2 alone at /sys/fs/cgroup.
set -e
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$@"
