# shellcheck shell=bash
# Sourced by the sbatch files, which run from a copy: the checkout is where sbatch was called, or FST_ROOT.
# FST_PROGRAM is another program than build/fst, FST_RUNS another place than runs/.
root=${FST_ROOT:-$SLURM_SUBMIT_DIR}
# shellcheck disable=SC2034  # used by the sbatch files
runs=${FST_RUNS:-$root/runs}
cd "$root" || exit 1
# shellcheck source=jobs/cluster.env
source "${FST_CLUSTER_ENV:-jobs/cluster.env}"
# shellcheck source=jobs/env.sh
source jobs/env.sh

# run_and_requeue ARGUMENT ...: fst with these arguments on all tasks of the job. Its exit code 75 says that
# it stopped with a checkpoint (SLURM sent SIGUSR1, see --signal): the job is put back into the queue.
run_and_requeue() {
  local status=0
  # shellcheck disable=SC2086  # FST_LAUNCH is a command with its arguments
  $FST_LAUNCH "${FST_PROGRAM:-build/fst}" "$@" || status=$?
  if [[ $status == 75 ]]; then
    echo "stopped with a checkpoint; requeueing job $SLURM_JOB_ID (restart ${SLURM_RESTART_COUNT:-0} ends)"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
  fi
  return "$status"
}
