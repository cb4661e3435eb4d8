#!/bin/sh
# A check for `failover-test --check`: shows the test's first volume as a file and runs the given command on it,
#   sh check-through-nbd.sh e2fsck -fn
# Ends as the command did; 75 (could not tell) when the export could not be shown.
set -u
dir=$(mktemp -d) || exit 75
nbdfuse "$dir/mnt-disk" "$REPHUB_TEST_URI" 2>"$dir.log" &
fuse=$!
shown=''
end() {
  if [ -n "$shown" ]; then fusermount3 -u "$dir" || fusermount3 -uz "$dir"; fi
  kill "$fuse" 2>/dev/null
  wait "$fuse" 2>/dev/null
  rm -rf "$dir" "$dir.log"
}
trap end EXIT
for _ in $(seq 200); do
  if mountpoint -q "$dir"; then shown=yes; break; fi
  kill -0 "$fuse" 2>/dev/null || break
  sleep 0.05
done
if [ -z "$shown" ]; then cat "$dir.log" >&2; exit 75; fi
"$@" "$dir/mnt-disk"
