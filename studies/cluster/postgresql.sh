#!/usr/bin/env bash
# A role and a database for studies, on a PostgreSQL server that all machines can reach.
#
#   sudo -u postgres ./postgresql.sh                     on the server itself
#   PGHOST=db.example.org PGUSER=admin ./postgresql.sh   from elsewhere, as a role that may create roles and databases
#
# It writes scalesearch.pgpass. Copy that file to each machine as ~/.pgpass (chmod 600); no command then needs a password:
#
#   export SCALESEARCH_STORAGE=postgresql://scalesearch@db.example.org/scalesearch
#
# A worker holds up to three connections; PostgreSQL allows 100 (`max_connections`) unless told otherwise.
# Over a network use TLS: `ssl = on` in postgresql.conf, this line in pg_hba.conf,
#
#   hostssl scalesearch scalesearch 10.0.0.0/8 scram-sha-256
#
# and on each machine PGSSLMODE=verify-full, with the certificate of the server's authority in ~/.postgresql/root.crt.
set -euo pipefail
umask 077
set -o noclobber # an existing scalesearch.pgpass stays

# 1. A password, in the form of ~/.pgpass: host, port, database, role, password.
password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
echo "*:*:scalesearch:scalesearch:$password" >scalesearch.pgpass

# 2. The role: no superuser, and of all rights only that to log in. The password stays off the command line and the log.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="${PGDATABASE:-postgres}" <<SQL
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scalesearch LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '$password';
SQL

# 3. Its database.
createdb --owner=scalesearch --maintenance-db="${PGDATABASE:-postgres}" scalesearch

echo "created the role and the database scalesearch; the password is in $PWD/scalesearch.pgpass"
