#!/usr/bin/env bash
# A role and a database for studies, on a PostgreSQL server that all machines can reach.
#
#   sudo -u postgres ./postgresql.sh                     on the server itself
#   PGHOST=db.example.org PGUSER=admin ./postgresql.sh   from elsewhere, as a role that may create roles and databases
#
# The password is written into scalesearch.pgpass in the current folder. Copy that file to each machine as ~/.pgpass
# (chmod 600). Then no command needs a password:
#
#   export SCALESEARCH_STORAGE=postgresql://scalesearch@db.example.org/scalesearch
#
# A worker holds two or three connections; PostgreSQL allows 100 in all unless `max_connections` says otherwise.
# Over a network use TLS: `ssl = on` in postgresql.conf, in pg_hba.conf a line such as
#
#   hostssl scalesearch scalesearch 10.0.0.0/8 scram-sha-256
#
# and on each machine PGSSLMODE=verify-full, with the certificate of the server's authority in ~/.postgresql/root.crt.
set -euo pipefail
set -o noclobber # a password file of an earlier call stays
umask 077
maintenance=${PGDATABASE:-postgres}

# 1. The password, in the form of ~/.pgpass: host, port, database, role, password.
password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
echo "*:*:scalesearch:scalesearch:$password" >scalesearch.pgpass

# 2. The role, which may do nothing but log in. The password appears in no command line and in no log of the server.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$maintenance" <<SQL || { rm scalesearch.pgpass && exit 1; }
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scalesearch LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '$password';
SQL

# 3. Its database.
createdb --maintenance-db="$maintenance" --owner=scalesearch scalesearch

echo "created the role and the database scalesearch; the password is in $PWD/scalesearch.pgpass"
