"""What the images of docker-compose.yaml that are not ours do when they start, done here by other means.

PostgreSQL and Redis are Debian's. The S3 server is the embedded one (Swift), since SeaweedFS comes in no package.
"""

from __future__ import annotations

# As the image's entry point: the data folder is made once, and the databases before anybody can connect. PostgreSQL is
# at $PLACE:$PORT; databases.sql is a copy of docker/databases.sql.
POSTGRES = r"""
umask 077
if [ ! -e "$PGDATA" ]; then
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >&2
  echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
  { echo "CREATE DATABASE \"$POSTGRES_DB\";"; cat databases.sql; } | postgres --single -D "$PGDATA.new" postgres >&2
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses="$LISTEN" -p "$PORT" -c unix_socket_directories=
"""
