#!/usr/bin/env bash
# What `npm test` runs: the peers that the tests need, the build, the lint, the tests. All of it, or a word about what is missing.
#
#   REPHUB_TEST_PEERS=none     runs what needs no other maker's program and no root, and says what it left out
#   REPHUB_TEST_REPORT=FILE    also writes vitest's report as JSON
#   REPHUB_TEST_SIM_TIME=10s   how long the simulator runs fresh seeds (3m)
#   arguments                  go to vitest: npm test -- test/e2e; no seeds are run then
set -euo pipefail
cd "$(dirname "$0")/.."

# Command or file, and the Debian package that brings it.
needed=(
  qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils
  qemu-storage-daemon:qemu-system-x86 qemu-system-x86_64:qemu-system-x86
  nbdkit:nbdkit nbdinfo:libnbd-bin nbdcopy:libnbd-bin nbdfuse:nbdfuse nbdsh:python3-libnbd nbd-server:nbd-server nbd-client:nbd-client
  fio:fio busybox:busybox-static cpio:cpio fusermount3:fuse3 xz:xz-utils zstd:zstd
  mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs
  losetup:mount setpriv:util-linux unshare:util-linux ip:iproute2 cmp:diffutils apt-cache:apt
)

# Tests that start other makers' programs, or mount file systems.
with_peers=('test/interop/**' 'test/e2e/**'
  'test/scenarios/{busy-resync,checksum-resync,connect-differing-sizes,io-errors,pre-existing-data,resync-after-primary-crash,resync-multiple-interrupt,verify}.test.ts'
  'test/torture/torture.test.ts' 'test/kit/guest-fs.test.ts' 'test/kit/peers.test.ts' 'test/kit/vm.test.ts')

say() { printf '\n== %s\n' "$*"; }

missing_packages() {
  local PATH="$PATH:/usr/sbin:/sbin" entry
  for entry in "${needed[@]}"; do
    command -v "${entry%%:*}" >/dev/null || echo "${entry#*:}"
  done | sort -u
}

install_peers() {
  local packages
  mapfile -t packages < <(missing_packages)
  if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then apt-get -q update; fi
    # Older releases have nbdfuse inside libnbd-bin.
    if ! [[ "$(apt-cache policy nbdfuse 2>/dev/null)" =~ Candidate:\ [0-9] ]]; then packages=("${packages[@]/#nbdfuse/libnbd-bin}"); fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
      echo "The tests need programs that are not here. Type:" >&2
      echo "  sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
      echo "or leave out the tests that need them: REPHUB_TEST_PEERS=none npm test" >&2
      exit 1
    fi
    say "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q install -y --no-install-recommends "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" -gt 0 ]; then
      echo "Still missing after installing: ${packages[*]}" >&2
      exit 1
    fi
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "The tests mount real file systems, which only root may. Type:" >&2
    echo "  sudo -E npm test" >&2
    echo "or leave those tests out: REPHUB_TEST_PEERS=none npm test" >&2
    exit 1
  fi
  scripts/guest-kernel.sh >/dev/null 2>&1 || { apt-get -q update && scripts/guest-kernel.sh >/dev/null; }
}

options=()
case "${REPHUB_TEST_PEERS:-all}" in
  all) install_peers ;;
  none)
    for glob in "${with_peers[@]}"; do options+=(--exclude "$glob"); done
    ;;
  *)
    echo "REPHUB_TEST_PEERS=${REPHUB_TEST_PEERS}: expected all or none" >&2
    exit 2
    ;;
esac
export PATH="$PATH:/usr/sbin:/sbin"
if [ -n "${REPHUB_TEST_REPORT:-}" ]; then
  options+=(--reporter=default --reporter=json "--outputFile.json=$REPHUB_TEST_REPORT")
fi

# Drawn afresh for every state of the sources, and the same for the same one: what fails here fails again.
drawn=$(git rev-parse HEAD:packages HEAD:test 2>/dev/null | git hash-object --stdin 2>/dev/null | cut -c1-7 || true)
export REPHUB_TEST_SEED=$((16#${drawn:-1}))

build_and_lint() {
  say 'build'
  npm run --silent build
  say 'lint and format'
  npx --no-install eslint .
  npx --no-install prettier --check --log-level warn .
}

if [ "$#" -gt 0 ]; then
  build_and_lint
else
  # The simulator runs in one thread, from the sources: the other processor builds and lints beside it.
  aside=$(mktemp)
  # In a process group of its own, to be ended as one.
  set -m
  (build_and_lint) >"$aside" 2>&1 &
  set +m
  building=$!
  trap 'kill -- "-$building" 2>/dev/null || true; rm -f "$aside"' EXIT
  say 'fresh seeds (build and lint beside them)'
  npx --no-install tsx -C @rephub/source test/sim/bundled.ts --time "${REPHUB_TEST_SIM_TIME:-3m}" --from "$REPHUB_TEST_SEED"
  built=0
  wait "$building" || built=$?
  trap - EXIT
  cat "$aside"
  rm -f "$aside"
  [ "$built" -eq 0 ] || exit "$built"
fi
say "tests, seed $REPHUB_TEST_SEED"
npx --no-install vitest run "${options[@]}" "$@"
if [ "${REPHUB_TEST_PEERS:-all}" = none ]; then
  say "left out, because REPHUB_TEST_PEERS=none: ${with_peers[*]}"
fi
