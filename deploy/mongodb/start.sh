#!/bin/sh
# Start mongod as a replica set with logins. Run in the container by docker-compose.yml.
#
# With logins a replica set wants a key file, by which its members know each other. This set has
# one member, so nobody else needs the key: a new one at each start, in the container's memory.
set -eu
umask 077
head -c 96 /dev/urandom | base64 > /tmp/keyfile
exec mongod --replSet rs0 --keyFile /tmp/keyfile --bind_ip_all --quiet "$@"
