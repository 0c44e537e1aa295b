#!/bin/sh
# make_root.sh DIR: a root file system in DIR/root of the Debian release whose clients the tests drive, with these clients.
# Made once (about half a minute, as root) and again when this script has changed. The mirror is the one that the machine's
# own apt uses for Debian; where apt knows none, mmdebstrap's.
set -eu
release=trixie
clients="podman crun conmon netavark aardvark-dns passt slirp4netns fuse-overlayfs catatonit uidmap buildah criu
    containerd runc docker.io docker-cli slurmd slurmctld slurm-client munge docker-registry
    busybox-static iproute2 iptables nftables procps python3"

stamp=$(cksum <"$0")
mkdir -p "$1"
cd "$1"
[ "$(cat root/made-by 2>/dev/null)" != "$stamp" ] || exit 0
rm -rf root

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
    sort -u | head -n 1)
# How the machine's apt reaches it: proxies, certificates, what it makes of dates.
apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https|Retries|Check|ForceIPv)' >apt.conf || true

# Without pages, translations and the syncing of each file, which take most of the time.
# shellcheck disable=SC2086 # one word, or none
mmdebstrap --quiet --mode=root --variant=apt --format=directory --include="$(echo $clients | tr ' ' ',')" \
    --aptopt="$PWD/apt.conf" --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$release" root $mirror
printf '%s' "$stamp" >root/made-by
