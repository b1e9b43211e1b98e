#!/bin/sh
# A real Asterisk in a folder, not installed and without root: get-asterisk.sh FOLDER
#
# apt resolves and downloads with a state of its own, the packages are unpacked, and what
# conf/modules.conf does not load is taken away again: 82 MB to download, 46 MB that stay.
# SUITE (sid), MIRROR (the Debian mirror of this machine) and KEYRING say from where.
# FOLDER/.packages lists what it is made of, FOLDER/.ready stands for the whole. Where it cannot be
# had, FOLDER/.reason says why.
set -eu
mkdir -p "$1"
root=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
suite=${SUITE:-sid}
keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# What it empties must be its own.
if [ -n "$(ls -A "$root")" ] && [ ! -e "$root/.packages" ] && [ ! -e "$root/.reason" ]; then
  echo "get-asterisk.sh: $root is not empty and was not made by this script" >&2
  exit 2
fi
find "$root" -mindepth 1 -delete
: >"$root/.packages"
apt=$root/.apt

fail() { # WHY
  find "$root" -mindepth 1 -delete
  echo "$1" | tee "$root/.reason" >&2
  exit 1
}
trap 'code=$?; [ $code = 0 ] || [ -e "$root/.reason" ] || fail "no Asterisk: ended with $code"' EXIT
step() { # WHAT COMMAND...
  what=$1
  shift
  "$@" >"$root/.log" 2>&1 || fail "no Asterisk: $what: $(tail -n 3 "$root/.log" | tr '\n' ' ')"
}

for tool in apt-get dpkg-deb tar; do
  command -v $tool >/dev/null || fail "no Asterisk: $tool is missing; this needs Debian's packages"
done
[ -r "$keyring" ] || fail "no Asterisk: $keyring is missing; name Debian's keyring by KEYRING"
# shellcheck disable=SC2016  # the form is apt's
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
  grep -v security | head -n 1)}
[ -n "$mirror" ] || fail "no Asterisk: apt has no sources; name a Debian mirror by MIRROR"

mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/etc/apt.conf.d" \
  "$apt/etc/preferences.d" "$apt/etc/sources.list.d"
: >"$apt/status"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/etc/sources.list"
# A mirror that lags behind has an index over its "valid until"; the signature still counts.
cat >"$apt/apt.conf" <<CONF
Dir::Etc "$apt/etc";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
APT::Architecture "$(dpkg --print-architecture)";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Debug::NoLocking "true";
CONF
export APT_CONFIG="$apt/apt.conf"
step "apt cannot read Debian's $suite" apt-get --quiet=2 update
step "apt cannot bring the packages" apt-get --quiet=2 --yes --download-only install \
  asterisk asterisk-core-sounds-en-gsm

# Asterisk needs what it links to, not a whole Debian.
skip='^(perl|libperl|perl-base|perl-modules|gnupg|gpg|gpgsm|gpgconf|gpg-agent|dirmngr|pinentry|passwd'
skip="$skip|adduser|login|util-linux|debconf|asterisk-config|systemd|pci\.ids|libsnmp-base"
skip="$skip|freetds-common|odbcinst|sysvinit-utils|init-system-helpers|libc-gconv-modules-extra"
skip="$skip|dmsetup)[-_0-9.]"
for folder in lib lib64 bin sbin; do
  mkdir -p "$root/usr/$folder"
  ln -s "usr/$folder" "$root/$folder"
done
for package in "$apt"/archives/*.deb; do
  name=$(basename "$package")
  echo "$name" >>"$root/.packages"
  case $name in
    libperl5*) ;;
    *) ! echo "$name" | grep -Eq "$skip" || continue ;;
  esac
  dpkg-deb --fsys-tarfile "$package" >"$apt/one.tar" || fail "no Asterisk: $name is broken"
  step "$name cannot be unpacked" \
    tar --extract --keep-directory-symlink --no-same-owner --directory "$root" --file "$apt/one.tar"
done
rm -rf "$apt" "$root/etc/asterisk" "$root/usr/share/doc" "$root/usr/share/man" \
  "$root/usr/share/locale" "$root/usr/share/info" "$root/usr/share/lintian" "$root/usr/share/bug"

# What the packages' own scripts would have linked: without prompts VoiceMail() ends at once.
sounds=$root/usr/share/asterisk/sounds
for language in en en_US; do
  [ -e "$sounds/$language" ] || ln -s en_US_f_Allison "$sounds/$language"
done
# What the sample dialplan plays, in our own words: a goodbye, which is short.
rm -rf "$sounds/custom"
mkdir "$sounds/custom"
for prompt in main closed; do cp "$sounds/en/vm-goodbye.gsm" "$sounds/custom/$prompt.gsm"; done

step "it cannot be cut down" "$here/slim-asterisk.sh" "$root"
rm "$root/.log"
touch "$root/.ready"
