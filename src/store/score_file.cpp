#include "fst/store/score_file.h"

#include "fst/base/error.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"
#include "fst/store/h5.h"

namespace fst {

namespace {
constexpr std::int64_t margin_bytes = 1 << 20;  // for what HDF5 adds to the numbers

std::string group_of(std::int64_t number) {
  return "/case/" + std::to_string(number);
}
}  // namespace

struct ScoreFile::State {
  std::filesystem::path target, temporary;
  h5::File file;
  std::int64_t cases = 0;
  bool published = false;
};

ScoreFile::ScoreFile(std::filesystem::path target, std::int64_t payload_bytes) {
  const std::filesystem::path temporary = temporary_name(target);
  const auto folder = target.has_parent_path() ? target.parent_path() : ".";
  expect_space(folder, payload_bytes + margin_bytes);
  h5::File file = h5::File::create(temporary);
  state_ = std::make_unique<State>(State{std::move(target), temporary, std::move(file)});
  state_->file.set_attribute("/", "filetype", "fst scores");
}

ScoreFile::~ScoreFile() {
  if (state_ == nullptr || state_->published) return;
  std::error_code ignored;
  std::filesystem::remove(state_->temporary, ignored);
}

std::int64_t ScoreFile::add(const std::string& id, std::span<const float> logprob) {
  const std::int64_t number = state_->cases++;
  const std::string group = group_of(number);
  state_->file.put(group + "/logprob", logprob);
  state_->file.set_variable_text(group, "id", id);
  return number;
}

void ScoreFile::make_logits(std::int64_t number, std::int64_t rows, std::int64_t vocab) {
  state_->file.make(group_of(number) + "/logits", h5::Element::f32, {rows, vocab});
}

void ScoreFile::logits(std::int64_t number, std::int64_t first, std::span<const float> values) {
  const std::string path = group_of(number) + "/logits";
  const std::int64_t vocab = state_->file.dims(path).back();
  state_->file.write_bytes(path, h5::Element::f32, first * vocab, std::as_bytes(values));
}

void ScoreFile::commit() {
  state_->file.close();
  publish_sealed(state_->target);
  state_->published = true;
}

}  // namespace fst
