#!/bin/sh
# Make the secrets of docker-compose.yml, once: make-secrets.sh [FOLDER]
# A file that is there stays as it is. Needs openssl or python3.
set -eu
folder=${1:-$(dirname "$0")/../secrets}
umask 077
mkdir -p "$folder"
# The folder is the lock: nobody but its owner comes in. The files themselves may be read by all,
# because compose shows them in the containers with the owner and mode they have here, and every
# container runs as a user of its own (10001, rabbitmq, mongodb), none of which is their owner.
chmod 700 "$folder"

random() { # BYTES: so many, in base64 that may stand in a URL
  if command -v openssl >/dev/null; then
    openssl rand -base64 "$1"
  else
    python3 -c "import base64, os; print(base64.b64encode(os.urandom($1)).decode())"
  fi | tr '+/' '-_'
}

keep() { # NAME TEXT: the file, unless it is there
  file=$folder/$1.txt
  if [ -e "$file" ]; then
    echo "kept $1.txt"
  else
    printf '%s\n' "$2" > "$folder/.new"
    mv "$folder/.new" "$file"
    echo "made $1.txt"
  fi
  chmod 444 "$file"
}

keep callmesh_secret_keys "$(random 32)"
keep callmesh_amqp_url "amqp://callmesh:$(random 24)@rabbitmq:5672/"
keep callmesh_mongo_url "mongodb://callmesh:$(random 24)@mongodb:27017/callmesh?replicaSet=rs0"
keep mongodb_root_password "$(random 24)"
# The broker's user is the one of its URL. (The database makes the one of its URL by itself.)
password=$(sed -n 's|^amqp://callmesh:\([^@]*\)@rabbitmq[:/].*|\1|p' "$folder/callmesh_amqp_url.txt")
keep rabbitmq_user "default_user = callmesh
default_pass = ${password:-$(random 24)}
default_user_tags.monitoring = true"
