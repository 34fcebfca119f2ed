#!/bin/sh
# Creates the secrets of deploy/compose.yaml in deploy/secrets, one file each, unless they exist.
# The directory is closed to others; the files are readable, because containers read them as other users.
set -eu
directory="$(dirname "$0")/secrets"
mkdir -p "$directory"
chmod 700 "$directory"

make_secret() {
  if [ ! -s "$directory/$1" ]; then
    python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())" >"$directory/$1"
    chmod 444 "$directory/$1"
    echo "created $directory/$1"
  fi
}

for name in encryption_key api_keys clickhouse_password grafana_clickhouse_password grafana_admin_password; do
  make_secret "$name"
done
