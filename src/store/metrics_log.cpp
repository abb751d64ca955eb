#include "fst/store/metrics_log.h"

#include <algorithm>
#include <fcntl.h>
#include <string>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/store/files.h"

#include "posix.h"

namespace fst {

struct MetricsLog::State {
  Descriptor file;
  std::int64_t lines = 0;
  std::int64_t end = 0;  // bytes of whole lines
};

MetricsLog::MetricsLog(const std::filesystem::path& file)
    : state_(std::make_unique<State>(State{Descriptor(file, O_RDWR | O_CREAT)})) {
  const std::string text = read_text(file);
  state_->lines = std::count(text.begin(), text.end(), '\n');
  state_->end = static_cast<std::int64_t>(text.rfind('\n') + 1);  // npos + 1 = 0
  if (state_->end == static_cast<std::int64_t>(text.size())) return;
  log::warn(file.string() + ": incomplete last line dropped");
  state_->file.truncate(state_->end);
}

MetricsLog::MetricsLog(MetricsLog&&) noexcept = default;
MetricsLog::~MetricsLog() = default;

std::int64_t MetricsLog::lines() const {
  return state_->lines;
}

void MetricsLog::append(std::string_view json) {
  if (json.find('\n') != std::string_view::npos) {
    throw Error(state_->file.file().string() + ": a line with a newline inside");
  }
  const std::string line = std::string(json) + "\n";
  try {
    state_->file.write_at(state_->end, std::as_bytes(std::span(line)));
  } catch (const Error&) {
    state_->file.truncate(state_->end);
    throw;
  }
  state_->end += static_cast<std::int64_t>(line.size());
  ++state_->lines;
}

void MetricsLog::sync() {
  state_->file.sync();
}

void MetricsLog::cut_back(std::int64_t lines) {
  if (lines < 0 || lines > state_->lines) {
    throw Error(state_->file.file().string() + ": the checkpoint knows " + std::to_string(lines) +
                " lines, the file has " + std::to_string(state_->lines));
  }
  const std::string text = read_text(state_->file.file());
  std::size_t end = 0;
  for (std::int64_t i = 0; i < lines; ++i) end = text.find('\n', end) + 1;
  state_->file.truncate(static_cast<std::int64_t>(end));
  state_->end = static_cast<std::int64_t>(end);
  state_->lines = lines;
}

}  // namespace fst
