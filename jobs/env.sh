# shellcheck shell=bash
# Source it before running fst under Open MPI. Sets only what is not set yet.
# Quiet and fast on one machine: no probing of networks, no binding where ranks share cores, and waiting
# ranks give way to working ones. On a cluster set OMPI_MCA_btl and OMPI_MCA_pml first (cluster.env).
export OMPI_ALLOW_RUN_AS_ROOT=${OMPI_ALLOW_RUN_AS_ROOT:-1}
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
export OMPI_MCA_btl=${OMPI_MCA_btl-self,vader}
export OMPI_MCA_pml=${OMPI_MCA_pml-ob1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Set but empty means: let Open MPI choose.
[[ -n $OMPI_MCA_btl ]] || unset OMPI_MCA_btl
[[ -n $OMPI_MCA_pml ]] || unset OMPI_MCA_pml

# stoppable COMMAND ...: runs it and returns its status. Ctrl-C, SIGTERM and SIGUSR1 to this shell become
# SIGUSR1 to the command, on which fst writes a checkpoint and exits with 75 (mpirun passes it to all ranks).
stoppable() {
  setsid "$@" & # a session of its own, so that the terminal's Ctrl-C does not reach it directly
  local job=$! status
  # shellcheck disable=SC2064  # the process id of now
  trap "kill -USR1 $job 2>/dev/null" INT TERM USR1
  while true; do
    status=0
    wait $job || status=$?
    # A signal ends the wait, not the job.
    if ((status <= 128)) || ! kill -0 $job 2>/dev/null; then break; fi
  done
  trap - INT TERM USR1
  return $status
}
