#!/bin/sh
# A user of the broker for one PBX that publishes by itself: pbx-user.sh TENANT PBX
# It may publish to the exchange PREFIX.pbx with the routing key TENANT.PBX, and nothing else.
# Prints its name and a new password, once; run again, it gives that user another password.
#
#   RABBITMQCTL  how the broker is told; in containers: docker compose exec -T rabbitmq rabbitmqctl
#   PREFIX       CALLMESH_AMQP_PREFIX of the mesh (mesh)
#   VHOST        the vhost of CALLMESH_AMQP_URL (/)
set -eu
export LC_ALL=C

refuse() {
  echo "pbx-user.sh: $1" >&2
  exit 2
}

[ $# = 2 ] || refuse "say TENANT and PBX, as the site file names them"
tenant=$1 pbx=$2 prefix=${PREFIX:-mesh} vhost=${VHOST:-/}
# All of it goes into patterns: letters, digits and dashes stand for themselves.
case $tenant in '' | [!a-z0-9]* | *[!a-z0-9-]*) refuse "$tenant is no name of a tenant" ;; esac
case $pbx in '' | [!a-z0-9]* | *[!a-z0-9_-]*) refuse "$pbx is no name of a PBX connection" ;; esac
case $prefix in '' | [!a-z0-9]* | *[!a-z0-9-]*) refuse "$prefix is no prefix of a mesh" ;; esac

# Two names never make one: neither of them has a full stop.
user=pbx.$tenant.$pbx
password=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')

ctl() {
  ${RABBITMQCTL:-rabbitmqctl} --quiet "$@"
}

# The password by standard input, so that no list of processes shows it.
if ! printf '%s\n' "$password" | ctl add_user "$user" >/dev/null 2>&1; then
  # It is there already; what else is wrong, this says.
  printf '%s\n' "$password" | ctl change_password "$user" >/dev/null
fi
# Before the right to write: without a rule for its topics a user may use all of them.
ctl set_topic_permissions -p "$vhost" "$user" "$prefix.pbx" "^$tenant\\.$pbx\$" '^$' </dev/null
ctl set_permissions -p "$vhost" "$user" '^$' "^$prefix\\.pbx\$" '^$' </dev/null
ctl set_user_limits "$user" '{"max-connections": 10, "max-channels": 50}' </dev/null

echo "user: $user"
echo "password: $password"
