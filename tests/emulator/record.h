#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// What launches do, for tests and for analysis/roofline.py: counted while they run, or only listed
/// in their place. README.md says what is counted.
namespace fst::emulator {

/// Bytes of a launch's accesses to device memory, read or written.
struct Bytes {
  std::int64_t issued = 0;   // the sum over all accesses of all threads
  std::int64_t brought = 0;  // sectors of 32 bytes, each once for every block that touches it
  std::int64_t touched = 0;  // sectors of 32 bytes, each once
};

struct Traffic {
  Bytes read, written;
  std::int64_t shared_read = 0, shared_written = 0;  // bytes, the sum over all accesses
  /// Two for each fma(). What kernels write as + - * / is no word, so it is not counted.
  std::int64_t operations = 0;
  /// 2 m n k for each product of the tensor core's words.
  std::int64_t tensor_operations = 0;
};

/// The least that an operation of kernels/*.h can do: its inputs read once, its outputs written
/// once, in bytes, and the operations of its formula (a multiplication and an addition are two).
struct Work {
  std::int64_t read = 0, written = 0, operations = 0;
  std::int64_t bytes() const { return read + written; }
};

/// A call of kernels/*.h on the device.
struct Operation {
  std::string name;
  std::string shape;            // JSON: {"rows": 3, ...}
  std::string type;             // of the elements: "f32", "bf16"
  std::function<Work()> least;  // called when its first launch runs: it may read device memory
  Work work;
};

struct LaunchRecord {
  const void* kernel = nullptr;
  unsigned grid[3] = {}, block[3] = {};
  std::size_t shared = 0;                // bytes
  std::shared_ptr<Operation> operation;  // nullptr: queued outside of all
  Traffic traffic;                       // zero where it is only listed
};

/// off: launches run. counts: they run and are counted; needs the checked build. list: they do not
/// run, and memory is neither filled nor copied on the device, so that models of any size can be
/// listed: what a kernel would have written is undefined.
enum class Recording { off, counts, list };
/// From now on; throws std::runtime_error for counts in the fast build.
void record_launches(Recording how);
/// Those that ran, or would have run, since the last call.
std::vector<LaunchRecord> take_launches();
/// "normalise_row<float>": from the program's symbols.
std::string kernel_name(const void* kernel);

/// Launches that are queued while it lives belong to the operation.
class Operating {
 public:
  explicit Operating(Operation operation);
  ~Operating();
  Operating(const Operating&) = delete;
  Operating& operator=(const Operating&) = delete;
};

}  // namespace fst::emulator
