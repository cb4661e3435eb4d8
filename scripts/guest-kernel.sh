#!/usr/bin/env bash
# Prints a folder that holds `vmlinuz` and `modules/*.ko` for the virtual machine that the tests boot. Debian's cloud kernel is
# downloaded and unpacked once, outside the repository; nothing is installed. Several callers at once are fine.
set -euo pipefail

cache="${REPHUB_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rephub-test}"
mkdir -p "$cache"
for ready in "$cache"/kernel-*/; do
  if [ -f "$ready/vmlinuz" ]; then echo "${ready%/}"; exit 0; fi
done

fresh=$(mktemp -d "$cache/fetch-XXXXXX")
trap 'rm -rf "$fresh"' EXIT
cd "$fresh"
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
if [ -z "$package" ]; then
  echo "no guest kernel to download: apt knows no linux-image-cloud-amd64; type: apt-get update" >&2
  exit 1
fi
apt-get -q download "$package" >&2
dpkg -x ./*.deb unpacked
mkdir -p ready/modules
cp unpacked/boot/vmlinuz-* ready/vmlinuz
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
  # Absent means built in. Debian compresses modules in some releases.
  module=$(find unpacked -name "$name.ko" -o -name "$name.ko.xz" -o -name "$name.ko.zst" | head -1)
  case "$module" in
    *.xz) xz -dc "$module" >"ready/modules/$name.ko" ;;
    *.zst) zstd -qdc "$module" >"ready/modules/$name.ko" ;;
    *.ko) cp "$module" "ready/modules/$name.ko" ;;
  esac
done
mv -T ready "$cache/kernel-$package" 2>/dev/null || test -f "$cache/kernel-$package/vmlinuz"
echo "$cache/kernel-$package"
