#include "journal.h"

#include <cstring>
#include <fcntl.h>
#include <limits>
#include <string>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/comm/pack.h"
#include "fst/store/checksum.h"

namespace fst {

namespace {

constexpr std::string_view magic = "FSTJRNL1";
constexpr std::int64_t header_bytes = 8 + 8 + 4;
constexpr std::int64_t frame_bytes = 4 + 4;

/// Length, checksum, payload.
std::vector<std::byte> framed(std::span<const std::byte> payload) {
  const auto length = static_cast<std::uint32_t>(payload.size());
  std::vector<std::byte> bytes(static_cast<std::size_t>(frame_bytes) + payload.size());
  std::memcpy(bytes.data() + 4, &length, 4);
  if (!payload.empty()) std::memcpy(bytes.data() + 8, payload.data(), payload.size());
  // The checksum covers length and payload, which lie side by side; then length moves to the front.
  const std::uint32_t sum = crc32(std::span(bytes).subspan(4));
  std::memcpy(bytes.data(), &length, 4);
  std::memcpy(bytes.data() + 4, &sum, 4);
  return bytes;
}

std::vector<std::byte> header(std::uint64_t fingerprint) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(header_bytes));
  std::memcpy(bytes.data(), magic.data(), 8);
  std::memcpy(bytes.data() + 8, &fingerprint, 8);
  const std::uint32_t sum = crc32(std::span(bytes).first(16));
  std::memcpy(bytes.data() + 16, &sum, 4);
  return bytes;
}

}  // namespace

Journal::Journal(const std::filesystem::path& file, std::uint64_t fingerprint,
                 std::vector<Record>& left)
    : file_(file, O_RDWR | O_CREAT) {
  read(fingerprint, left);
}

void Journal::read(std::uint64_t fingerprint, std::vector<Record>& left) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(file_.size()));
  file_.read_at(0, bytes);
  const auto all = std::span<const std::byte>(bytes);
  if (bytes.size() < static_cast<std::size_t>(header_bytes)) return write_header(fingerprint);
  Unpacker head(all.subspan(8, 12));
  const auto found = head.get<std::uint64_t>();
  const bool sound = std::memcmp(bytes.data(), magic.data(), 8) == 0 &&
                     head.get<std::uint32_t>() == crc32(all.first(16));
  if (!sound) {
    log::warn(file_.file().string() + ": its header is damaged; its rows are dropped");
    return write_header(fingerprint);
  }
  if (found != fingerprint) {
    throw Error(file_.file().string() +
                ": written by a program with other columns; continue with " +
                "that program or start in a new folder");
  }
  end_ = header_bytes;
  while (static_cast<std::size_t>(end_) < bytes.size()) {
    const auto rest = all.subspan(static_cast<std::size_t>(end_));
    if (rest.size() < static_cast<std::size_t>(frame_bytes)) return cut(end_, "incomplete");
    Unpacker frame(rest);
    const auto length = frame.get<std::uint32_t>();
    if (rest.size() - static_cast<std::size_t>(frame_bytes) < length) {
      return cut(end_, "incomplete");
    }
    const auto payload = rest.subspan(static_cast<std::size_t>(frame_bytes), length);
    const auto whole = framed(payload);
    if (std::memcmp(whole.data(), rest.data(), static_cast<std::size_t>(frame_bytes)) != 0) {
      return cut(end_, "damaged");
    }
    left.emplace_back(payload.begin(), payload.end());
    end_ += static_cast<std::int64_t>(whole.size());
  }
}

void Journal::write_header(std::uint64_t fingerprint) {
  file_.truncate(0);
  file_.write_at(0, header(fingerprint));
  end_ = header_bytes;
}

void Journal::cut(std::int64_t end, const std::string& why) {
  log::warn(file_.file().string() + ": " + why + " record at byte " + std::to_string(end) + "; " +
            std::to_string(file_.size() - end) + " bytes dropped");
  file_.truncate(end);
}

void Journal::append(std::span<const std::byte> payload) {
  if (payload.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(file_.file().string() + ": a row of " + std::to_string(payload.size()) +
                " bytes is too long");
  }
  const auto bytes = framed(payload);
  try {
    file_.write_at(end_, bytes);
  } catch (const Error&) {
    file_.truncate(end_);
    throw;
  }
  end_ += static_cast<std::int64_t>(bytes.size());
}

void Journal::reset() {
  file_.truncate(header_bytes);
  end_ = header_bytes;
}

}  // namespace fst
