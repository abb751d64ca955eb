#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fst/tensor/device.h"

#include "emulator/record.h"

/// Counts beside the least: what issue 5 promises of every operation.
namespace fst::roofline {

inline constexpr std::int64_t word = sizeof(float);

/// An operation that ran: all its launches together.
struct Ran {
  std::shared_ptr<emulator::Operation> operation;
  std::vector<emulator::LaunchRecord> launches;
  std::int64_t touched = 0, operations = 0;

  /// Whether a kernel of this name, or its beginning, was launched.
  bool by(const std::string& kernel) const;
};

/// Since the last call; throws std::runtime_error for a launch outside of all operations.
std::vector<Ran> operations_that_ran(const Device& device);

/// Bytes that an operation may touch beyond the least, by design; promise.cpp has the reasons.
std::int64_t bytes_by_design(const Ran& ran);
/// "" where touched bytes, and the operations of products and attention, are within 1.05 x of the
/// least and of what is more by design; else a sentence.
std::string broken_promise(const Ran& ran);

}  // namespace fst::roofline
