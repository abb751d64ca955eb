#include "fst/store/digest.h"

#include <algorithm>
#include <array>
#include <memory>
#include <openssl/evp.h>
#include <span>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/envelope.h"
#include "fst/store/h5.h"

#include "checkpoint_layout.h"
#include "history_file.h"

namespace fst {

namespace {

constexpr std::int64_t piece_bytes = 1 << 22;

/// SHA-256 of what was added.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    expect(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void add(std::span<const std::byte> bytes) {
    expect(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
    unsigned length = 0;
    expect(EVP_DigestFinal_ex(context_.get(), sum.data(), &length) == 1);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (unsigned i = 0; i < length; ++i) {
      text += digits[sum[i] >> 4];
      text += digits[sum[i] & 15];
    }
    return text;
  }

 private:
  static void expect(bool ok) {
    if (!ok) throw Error("OpenSSL: SHA-256 failed");
  }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

/// Adds "type count\n" and the elements in order, whatever the layout in the file.
void add_dataset(Sha256& sha, const h5::File& file, const std::string& path) {
  const h5::Element element = file.element(path);
  const std::int64_t count = file.size(path);
  const std::string head = std::string(h5::name_of(element)) + " " + std::to_string(count) + "\n";
  sha.add(std::as_bytes(std::span(head)));
  const auto bytes = static_cast<std::int64_t>(h5::bytes_of(element));
  std::vector<std::byte> piece(static_cast<std::size_t>(piece_bytes));
  for (std::int64_t begin = 0; begin < count; begin += piece_bytes / bytes) {
    const std::int64_t length = std::min(piece_bytes / bytes, count - begin);
    const auto part = std::span(piece).first(static_cast<std::size_t>(length * bytes));
    file.read_bytes(path, element, begin, part);
    sha.add(part);
  }
}

std::vector<NamedDigest> history_digests(const HistoryFile& history) {
  std::vector<NamedDigest> found;
  for (const Column& column : columns) {
    if (column.use != DigestUse::digest) continue;
    Sha256 sha;
    add_dataset(sha, history.h5(), values_path(column));
    if (ragged(column.type)) add_dataset(sha, history.h5(), offsets_path(column));
    found.push_back({std::string(column.path), sha.hex()});
  }
  return found;
}

std::vector<NamedDigest> checkpoint_digests(const std::filesystem::path& path) {
  const CheckpointReader reader(Communicator::self(), path);
  const h5::File file = h5::File::open(path);
  std::vector<NamedDigest> found;
  for (const std::string& name : reader.names()) {
    if (file.text_attribute(name, "use") != "digest") continue;
    Sha256 sha;
    add_dataset(sha, file, name);
    found.push_back({name, sha.hex()});
  }
  return found;
}

std::string filetype_of(const std::filesystem::path& file) {
  if (!has_envelope(file)) throw Error(file.string() + ": is not an HDF5 file of fst");
  check_envelope(Communicator::self(), file);
  return h5::File::open(file).text_attribute("/", "filetype");
}

}  // namespace

std::string sha256(std::string_view bytes) {
  Sha256 sha;
  sha.add(std::as_bytes(std::span(bytes)));
  return sha.hex();
}

std::vector<NamedDigest> digests(const std::filesystem::path& file) {
  const bool is_checkpoint = filetype_of(file) == checkpoint::filetype;
  auto found = is_checkpoint ? checkpoint_digests(file) : history_digests(HistoryFile::open(file));
  std::sort(found.begin(), found.end(),
            [](const NamedDigest& a, const NamedDigest& b) { return a.name < b.name; });
  return found;
}

std::string digest(const std::filesystem::path& file) {
  std::string lines;
  for (const NamedDigest& one : digests(file)) lines += one.name + " " + one.sha256 + "\n";
  return sha256(lines);
}

}  // namespace fst
