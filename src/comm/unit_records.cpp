// A unit's exchanges as parts of recorded work.

#include "fst/base/error.h"
#include "fst/comm/mpi.h"
#include "fst/comm/unit.h"

#include "channel.h"
#include "nccl_channel.h"

namespace fst {

bool Unit::recordable() const {
  return size() > 1 && comm_->against_nccl().empty();
}

/// Counts as no traffic, which is the same whether steps are recorded or not.
bool Unit::all_of(bool mine) const {
  const Communicator::Channel& channel = comm_->channel();
  const int refuses = mine ? 0 : 1;
  int anyone_refuses = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  FST_MPI_CHECK(
      MPI_Iallreduce(&refuses, &anyone_refuses, 1, MPI_INT, MPI_MAX, channel.comm, &request));
  channel.wait({&request, 1}, "all_of", "whether recorded steps hold");
  return anyone_refuses == 0;
}

void Unit::begin_record() const {
  if (!comm_->channel().nccl) throw Error("recording: NCCL has moved nothing before");
  comm_->channel().nccl->begin_record();
}

std::function<void()> Unit::end_record(const std::function<void()>& destroy) const {
  return comm_->channel().nccl->end_record(destroy);
}

void Unit::fail_record() const {
  if (comm_->channel().nccl) comm_->channel().nccl->fail_record();
}

}  // namespace fst
