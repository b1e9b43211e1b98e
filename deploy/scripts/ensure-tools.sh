#!/bin/sh
# Install what tests need beside Python packages, where it is missing: ensure-tools.sh rabbitmq|npm|sipp|chromium
set -eu

install() { # PACKAGE WHY
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$1 is missing ($2). Install it, or run this as root on Debian or Ubuntu." >&2
    exit 1
  fi
  echo "installing $1 ($2)"
  # Installed is not started: tests run private servers of their own.
  guard=/usr/sbin/policy-rc.d made=
  if [ ! -e $guard ]; then
    printf '#!/bin/sh\nexit 101\n' > $guard && chmod +x $guard && made=1
  fi
  trap '[ -z "$made" ] || rm -f $guard' EXIT
  export DEBIAN_FRONTEND=noninteractive
  apt-get install --quiet=2 --yes --no-install-recommends "$1" </dev/null >/dev/null 2>&1 || {
    apt-get update --quiet=2 </dev/null
    apt-get install --quiet=2 --yes --no-install-recommends "$1" </dev/null >/dev/null
  }
}

case $1 in
  rabbitmq)
    [ -n "${CALLMESH_TEST_AMQP_URL:-}" ] && exit 0
    docker info >/dev/null 2>&1 && exit 0
    for home in /usr/lib/rabbitmq/bin /usr/local/sbin /opt/rabbitmq/sbin; do
      [ -x "$home/rabbitmq-server" ] && [ -x "$home/rabbitmqctl" ] && exit 0
    done
    install rabbitmq-server "the bus of production, for tests"
    ;;
  npm)
    command -v npm >/dev/null && exit 0
    install npm "brings AsyncAPI's schema and the stand-ins for CRMs, for tests"
    ;;
  sipp)
    command -v sipp >/dev/null && exit 0
    install sip-tester "phones and callers for the Asterisk of tests/lab"
    ;;
  chromium)
    command -v chromium >/dev/null && exit 0
    install chromium "the browser of tests/browser"
    ;;
  *)
    echo "ensure-tools.sh: rabbitmq, npm, sipp or chromium" >&2
    exit 2
    ;;
esac
