#!/bin/sh
# usage: build.sh DIRECTORY. Makes the machine of tests/vm: Debian 13 with systemd and cgroup v2, as `disk`, `kernel` and
# `initrd` in DIRECTORY. Needs root, mmdebstrap and mke2fs; a machine that is there and was made by this script stays.
set -eu
umask 022
directory=$1
stamp=$(cksum <"$0")
[ "$(cat "$directory/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
rm -rf "$directory"
mkdir -p "$directory"
root=$directory/root

packages=linux-image-cloud-amd64,systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap,libseccomp2,procps
packages=$packages,busybox-static,stress-ng,crun,python3,python3-jeepney,python3-pytest,python3-pytest-timeout
packages=$packages,python3-hypothesis,criu,iproute2,iptables

mmdebstrap --variant=minbase --include="$packages" trixie "$root"

# What the tests are run by, and how they are begun and ended.
chroot "$root" useradd --create-home --shell /bin/bash tester
chroot "$root" passwd --quiet --delete root
mkdir -p "$root/var/lib/systemd/linger" "$root/etc/systemd/system/user@.service.d"
touch "$root/var/lib/systemd/linger/tester"
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$root/etc/systemd/system/user@.service.d/delegate.conf"
echo machine >"$root/etc/hostname"
printf '/dev/vda / ext4 defaults 0 1\n' >"$root/etc/fstab"
cat >"$root/usr/local/sbin/run-tests" <<'END'
#!/bin/sh
# The second disk is a tar archive with jubako, its tests and what to run.
mkdir /tests && tar -xf /dev/vdb -C /tests
cd /tests && sh ./run >/dev/ttyS1 2>&1
echo "exit $?" >/dev/ttyS1
sync
systemctl poweroff --force --force
END
chmod 755 "$root/usr/local/sbin/run-tests"
cat >"$root/etc/systemd/system/tests.service" <<'END'
[Unit]
Wants=user@1000.service
After=multi-user.target user@1000.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/run-tests
[Install]
WantedBy=graphical.target
END
chroot "$root" systemctl -q enable tests.service
chroot "$root" systemctl -q set-default graphical.target
chroot "$root" systemctl -q mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer

cp -L "$root"/boot/vmlinuz-* "$directory/kernel"
cp -L "$root"/boot/initrd.img-* "$directory/initrd"
mke2fs -q -t ext4 -d "$root" "$directory/disk" 3G
rm -rf "$root"
printf '%s' "$stamp" >"$directory/stamp"
