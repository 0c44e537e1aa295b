#!/bin/sh
# usage: run.sh DIRECTORY PROJECT [PYTEST ARGUMENTS]. Boots the machine that build.sh made in DIRECTORY and runs PROJECT's
# tests/vm in it; the machine's disk is not changed. Without KVM (software emulation) it takes a minute and a half to boot.
set -eu
directory=$1 project=$2
shift 2
work=$(mktemp -d "$directory/run.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

words=
for word in "$@"; do words="$words '$(printf %s "$word" | sed "s/'/'\\\\''/g")'"; done
cat >"$work/run" <<END
export JUBAKO_IN_MACHINE=1 PYTHONPATH=/tests/src:/tests/tests PYTHONDONTWRITEBYTECODE=1
exec python3 -m pytest -p no:cacheprovider --color no --timeout 200 tests/vm $words
END
tar -cf "$work/tests.tar" --exclude=__pycache__ -C "$work" run -C "$project" src tests pyproject.toml
truncate -s %1M "$work/tests.tar"

say() { printf 'vm: %s\n' "$*" >&2; }
if [ -w /dev/kvm ] && [ -n "${JUBAKO_VM_KVM:-}" ]; then
    cpu='-accel kvm -cpu host'
else # what is left out here makes the emulation panic or crawl; with a thread for each CPU it sees half-patched code
    cpu='-accel tcg,thread=single -cpu max,-cx16,-la57,-pku,-smap,-smep,-umip'
fi
say "booting"
# shellcheck disable=SC2086 # a list of words
timeout "${JUBAKO_VM_TIMEOUT:-1500}" qemu-system-x86_64 $cpu -smp 2 -m 3072 -nodefaults -no-reboot -display none \
    -kernel "$directory/kernel" -initrd "$directory/initrd" \
    -append 'root=/dev/vda rw console=ttyS0 quiet mitigations=off nokaslr no_timer_check panic=-1' \
    -drive "file=$directory/disk,format=raw,if=virtio,snapshot=on" \
    -drive "file=$work/tests.tar,format=raw,if=virtio,readonly=on" \
    -serial "file:$directory/console" -serial "file:$work/output" &
machine=$!
tail -n +1 -F -q --pid=$machine "$work/output" 2>/dev/null | sed -u "s/\r//" || true
code=0
wait $machine || code=$?
last=$(tr -d '\r' <"$work/output" | sed -n 's/^exit //p' | tail -1)
[ -n "$last" ] || say "the machine ended ($code) before its tests did: see $directory/console"
exit "${last:-1}"
