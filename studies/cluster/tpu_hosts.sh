#!/usr/bin/env bash
# One worker on each host of a Cloud TPU slice; each host trains trials with its own chips until none is left.
#
#   scalesearch init --study my_study.toml            once, from anywhere: makes the study, trains nothing
#   ./tpu_hosts.sh my_slice europe-west4-b my_study   the slice, its zone, the study's name; more options of the worker
#   scalesearch run --study my_study.toml --out DIR   afterwards: the run folder, from the finished trials
#
# It needs SCALESEARCH_STORAGE (a URL without a password), scalesearch.pgpass, as postgresql.sh writes it, and on the hosts
# scalesearch[postgresql] with jax[tpu]. It returns when all workers have ended; run it again after a preemption.
set -euo pipefail
slice=${1:?"usage: tpu_hosts.sh SLICE ZONE STUDY_NAME [more options of scalesearch worker]"}
zone=${2:?"the zone is missing"}
study=${3:?"the name of the study is missing"}
shift 3
: "${SCALESEARCH_STORAGE:?"must hold the URL of the storage"}"

# Chips of one host, as x,y,z: 2,2,1 for v4, v5p and v6e hosts of four chips, 2,4,1 for hosts of eight.
chips=${TPU_CHIPS_PER_HOST:-2,2,1}

# The password goes as a file: a command line is visible to every user of the host.
gcloud compute tpus tpu-vm scp scalesearch.pgpass "$slice:.pgpass" --zone="$zone" --worker=all

# Without the bounds each process would wait for all hosts of the slice to form one device.
printf -v command '%q ' env "SCALESEARCH_STORAGE=$SCALESEARCH_STORAGE" \
    TPU_PROCESS_BOUNDS=1,1,1 "TPU_CHIPS_PER_PROCESS_BOUNDS=$chips" \
    scalesearch worker --study-name "$study" "$@"
gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker=all --command="chmod 600 .pgpass && $command"
