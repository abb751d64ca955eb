#include "record.h"

#include <cstdio>
#include <map>
#include <regex>
#include <stdexcept>
#include <unistd.h>
#include <unordered_map>

#include "machine.h"

namespace fst::emulator {
namespace {

constexpr std::uintptr_t sector_bytes = 32;

/// The last block of the launch that read and wrote a sector, counted from 1.
struct Sector {
  std::uint64_t reader = 0, writer = 0;
};

struct Recorder {
  Recording how = Recording::off;
  std::shared_ptr<Operation> operation;
  std::vector<LaunchRecord> launches;
  Traffic traffic;  // of the launch that runs
  std::unordered_map<std::uintptr_t, Sector> sectors;
};

Recorder& recorder() {
  static Recorder instance;
  return instance;
}

std::uint64_t block_number() {
  return 1 + blockIdx.x +
         std::uint64_t{gridDim.x} * (blockIdx.y + std::uint64_t{gridDim.y} * blockIdx.z);
}

/// An access to one sector; `last` is who touched it last in this way.
void count(Bytes& bytes, std::uint64_t& last) {
  const std::uint64_t block = block_number();
  if (last == 0) bytes.touched += sector_bytes;
  if (last != block) bytes.brought += sector_bytes;
  last = block;
}

/// "name<Row<int, 2>>" of "void fst::(anonymous namespace)::name<fst::Row<int, 2> >(float*, long)".
std::string short_name(const std::string& name) {
  static const std::regex scopes("\\(anonymous namespace\\)::|\\w+::"), spaces(" (?=>)");
  const std::string plain = std::regex_replace(std::regex_replace(name, scopes, ""), spaces, "");
  const std::string without = plain.substr(0, plain.find('('));
  return without.rfind("void ", 0) == 0 ? without.substr(5) : without;
}

std::map<std::uintptr_t, std::string> symbols_of_program() {
  char command[64];
  std::snprintf(command, sizeof command, "nm -C /proc/%d/exe", getpid());
  FILE* const lines = popen(command, "r");
  if (lines == nullptr) throw std::runtime_error("nm, which names kernels, cannot be run");
  std::map<std::uintptr_t, std::string> symbols;
  char line[4096], name[4096];
  unsigned long long address = 0;
  char kind = 0;
  while (std::fgets(line, sizeof line, lines) != nullptr) {
    if (std::sscanf(line, "%llx %c %4095[^\n]", &address, &kind, name) == 3) {
      symbols.emplace(address, name);
    }
  }
  pclose(lines);
  return symbols;
}

}  // namespace

void record_launches(Recording how) {
  if (how == Recording::counts && !checking()) {
    throw std::runtime_error("accesses are counted in the checked build alone");
  }
  recorder().how = how;
  counting = how == Recording::counts;
}

Recording recording() {
  return recorder().how;
}

std::vector<LaunchRecord> take_launches() {
  return std::exchange(recorder().launches, {});
}

std::shared_ptr<Operation> current_operation() {
  return recorder().operation;
}

Operating::Operating(Operation operation) {
  recorder().operation = std::make_shared<Operation>(std::move(operation));
}
Operating::~Operating() {
  recorder().operation = nullptr;
}

void record_launch(const Launch& launch) {
  Recorder& r = recorder();
  LaunchRecord record{launch.kernel,
                      {launch.grid.x, launch.grid.y, launch.grid.z},
                      {launch.block.x, launch.block.y, launch.block.z},
                      launch.shared,
                      launch.operation,
                      {}};
  if (record.operation != nullptr && record.operation->least) {
    record.operation->work = std::exchange(record.operation->least, nullptr)();
  }
  if (r.how == Recording::counts) {
    r.traffic = {};
    r.sectors.clear();
    execute(launch);
    record.traffic = r.traffic;
  }
  r.launches.push_back(std::move(record));
}

void count_access(const void* address, std::size_t bytes, Access access) {
  Recorder& r = recorder();
  const auto size = static_cast<std::int64_t>(bytes);
  const bool reads = access != Access::write, writes = access != Access::read;
  if (shared_pages().holds(address, bytes)) {
    r.traffic.shared_read += reads ? size : 0;
    r.traffic.shared_written += writes ? size : 0;
    return;
  }
  if (find_allocation(address, bytes) == nullptr) return;  // constants and arguments
  r.traffic.read.issued += reads ? size : 0;
  r.traffic.written.issued += writes ? size : 0;
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t at = begin / sector_bytes; at * sector_bytes < begin + bytes; ++at) {
    Sector& sector = r.sectors[at];
    if (reads) count(r.traffic.read, sector.reader);
    if (writes) count(r.traffic.written, sector.writer);
  }
}

void count_multiply_add() {
  recorder().traffic.operations += 2;
}

void count_tensor_product(std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  recorder().traffic.tensor_operations += 2 * rows * columns * depth;
}

std::string kernel_name(const void* kernel) {
  static const std::map<std::uintptr_t, std::string> symbols = symbols_of_program();
  const auto found = symbols.find(reinterpret_cast<std::uintptr_t>(kernel) - program_base());
  if (found == symbols.end()) throw std::runtime_error("a kernel without a symbol");
  return short_name(found->second);
}

}  // namespace fst::emulator
