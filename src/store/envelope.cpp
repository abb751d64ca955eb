#include "fst/store/envelope.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <vector>

#include "fst/base/error.h"
#include "fst/store/checksum.h"
#include "fst/store/files.h"

#include "posix.h"

namespace fst {

namespace {

constexpr std::string_view magic = "fst envelope 1";
constexpr std::int64_t block_bytes = 1 << 20;

using Block = std::array<char, envelope_bytes>;

struct Envelope {
  std::int64_t bytes = 0;
  std::uint64_t checksum = 0;
};

Block text_of(const Envelope& envelope) {
  std::ostringstream text;
  text << magic << "\nbytes " << envelope.bytes << "\nchecksum " << std::hex << envelope.checksum
       << "\n";
  Block block{};
  text.str().copy(block.data(), block.size() - 1);
  return block;
}

/// Sum over the blocks of [envelope_bytes, bytes) of their hashes; member r takes blocks r, r + n,
/// ...
std::uint64_t content_sum(const Communicator& comm, const Descriptor& file, std::int64_t bytes) {
  std::vector<std::byte> buffer(static_cast<std::size_t>(block_bytes));
  std::uint64_t sum = 0;
  for (std::int64_t block = comm.rank();; block += comm.size()) {
    const std::int64_t begin = envelope_bytes + block * block_bytes;
    if (begin >= bytes) return sum;
    const auto part =
        std::span(buffer).first(static_cast<std::size_t>(std::min(block_bytes, bytes - begin)));
    file.read_at(begin, part);
    sum += word_sum(static_cast<std::uint64_t>(block), hash64(part));
  }
}

std::uint64_t total_sum(const Communicator& comm, const std::filesystem::path& file,
                        std::int64_t& bytes) {
  std::uint64_t sum = 0;
  together(comm, "reading " + file.string(), [&] {
    const Descriptor descriptor(file, O_RDONLY);
    bytes = descriptor.size();
    if (bytes < envelope_bytes) {
      throw Error(file.string() + ": damaged: only " + std::to_string(bytes) + " bytes long");
    }
    sum = content_sum(comm, descriptor, bytes);
  });
  comm.all_reduce_sum(std::span(&sum, 1), "checksum of " + file.string());
  return sum;
}

Block read_block(const std::filesystem::path& file) {
  const Descriptor descriptor(file, O_RDONLY);
  Block block{};
  descriptor.read_at(0, std::as_writable_bytes(std::span(block)));
  return block;
}

/// What a damaged file says about itself, for the message.
std::string explain(const Block& found, std::int64_t bytes) {
  if (std::string_view(found.data(), magic.size()) != magic) return "it is not a file of fst";
  std::istringstream text(std::string(found.data() + magic.size(), found.size() - magic.size()));
  std::string word;
  std::int64_t sealed = 0;
  if (text >> word >> sealed && sealed != bytes) {
    return "it has " + std::to_string(bytes) + " bytes, " + std::to_string(sealed) +
           " were written";
  }
  return "its bytes are not those that were written";
}

}  // namespace

void together(const Communicator& comm, std::string_view what, const std::function<void()>& work) {
  std::string failure;
  try {
    work();
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "unknown error";
  }
  for (const auto& part : comm.all_gather(std::as_bytes(std::span(failure)), what)) {
    if (part.empty()) continue;
    throw Error(std::string(reinterpret_cast<const char*>(part.data()), part.size()));
  }
}

void seal_envelope(const Communicator& comm, const std::filesystem::path& file) {
  Envelope envelope;
  envelope.checksum = total_sum(comm, file, envelope.bytes);
  together(comm, "sealing " + file.string(), [&] {
    if (comm.rank() != 0) return;
    Descriptor descriptor(file, O_WRONLY);
    const Block block = text_of(envelope);
    descriptor.write_at(0, std::as_bytes(std::span(block)));
    descriptor.sync();
  });
}

void publish_sealed(const std::filesystem::path& target) {
  const std::filesystem::path temporary = temporary_name(target);
  seal_envelope(Communicator::self(), temporary);
  publish(temporary, target);
}

void check_envelope(const Communicator& comm, const std::filesystem::path& file) {
  Envelope envelope;
  envelope.checksum = total_sum(comm, file, envelope.bytes);
  together(comm, "checking " + file.string(), [&] {
    const Block found = read_block(file);
    // The whole block is compared, so that a change in its unused part is noticed too.
    if (found != text_of(envelope)) {
      throw Error(file.string() + ": damaged or incomplete: " + explain(found, envelope.bytes));
    }
  });
}

bool has_envelope(const std::filesystem::path& file) {
  const Descriptor descriptor(file, O_RDONLY);
  if (descriptor.size() < envelope_bytes) return false;
  const Block block = read_block(file);
  return std::string_view(block.data(), magic.size()) == magic;
}

}  // namespace fst
