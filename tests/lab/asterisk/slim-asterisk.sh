#!/bin/sh
# Cut an Asterisk of get-asterisk.sh down to what conf/modules.conf loads: slim-asterisk.sh FOLDER
set -eu
root=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
loader=$(find "$root/usr/lib64" "$libraries" -maxdepth 1 -name 'ld-linux*.so.*' | head -n 1)
modules=$(find "$root/usr/lib" -maxdepth 3 -type d -path '*asterisk/modules')

sed -n 's/^load = //p' "$here/conf/modules.conf" >"$root/.wanted"
for module in "$modules"/*.so; do
  grep -qxF "$(basename "$module")" "$root/.wanted" || rm "$module"
done

for linked in "$root/usr/sbin/asterisk" "$modules"/*.so; do
  "$loader" --library-path "$libraries:$root/usr/lib" --list "$linked"
done | sed -n 's/.* => \(\/[^ ]*\).*/\1/p' | sort -u | xargs readlink -f >"$root/.wanted"
find "$root/usr/lib" -type f ! -path "$modules/*" ! -name 'ld-linux*' ! -name 'libnss_*' |
  grep -vxF -f "$root/.wanted" | xargs -r rm

for folder in bin sbin libexec; do
  [ ! -d "$root/usr/$folder" ] || find "$root/usr/$folder" -type f ! -name asterisk -delete
done
# Asterisk reads nothing of /usr/share but its own.
find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name asterisk -exec rm -rf {} +
rm -rf "$root/var" "$root/usr/lib"/*/perl* "$root/.wanted"
find "$root" -xtype l -delete
find "$root" -mindepth 1 -type d -empty -delete
