#include "fst/evolve/reflection.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <sstream>

#include "fst/base/error.h"
#include "fst/evolve/reply.h"

namespace fst {
namespace {

constexpr std::string_view current_prompt = "<curr_param>";
constexpr std::string_view side_info = "<side_info>";
constexpr std::string_view cut_mark = " [...] ";
constexpr int deepest_heading = 6;

void render_value(std::string& out, const RecordValue& value, int level) {
  if (value.kind == RecordValue::Kind::text) {
    out += strip(value.text);
    out += "\n\n";
    return;
  }
  int item = 0;
  for (const auto& [key, entry] : value.entries) {
    out.append(static_cast<std::size_t>(level), '#');
    out += value.kind == RecordValue::Kind::map ? " " + key : " Item " + std::to_string(++item);
    out += '\n';
    render_value(out, entry, std::min(level + 1, deepest_heading));
  }
  if (value.entries.empty()) out += '\n';
}

bool continuation_byte(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// As few digits as tell the reward: 1, 0.5.
std::string number_text(double value) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << value;
  return out.str();
}

std::string render_evidence(const ReflectionLayout& layout, std::span<const Evidence> evidence,
                            const RenderOptions& options) {
  std::vector<RecordValue> records;
  std::string out;
  for (std::size_t i = 0; i < evidence.size(); ++i) {
    const std::string question = head_and_tail(evidence[i].question, options.evidence_bytes);
    const std::string answer = head_and_tail(evidence[i].completion, options.evidence_bytes);
    const std::string feedback = head_and_tail(evidence[i].feedback, options.evidence_bytes);
    if (!layout.has_record) {
      records.push_back(RecordValue::map({{"Inputs", RecordValue::of(question)},
                                          {"Generated Outputs", RecordValue::of(answer)},
                                          {"Feedback", RecordValue::of(feedback)}}));
      continue;
    }
    if (i > 0) out += "\n\n";
    out += fill_placeholders(layout.record, {{"<number>", std::to_string(i + 1)},
                                             {"<question>", question},
                                             {"<answer>", answer},
                                             {"<answer_line>", one_line(answer)},
                                             {"<feedback>", feedback},
                                             {"<reward>", number_text(evidence[i].reward)}});
  }
  return layout.has_record ? out : render_records(records);
}

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw InputError("reflection layout " + name + ": " + what);
}

/// Where the text of a section goes.
std::string& section(ReflectionLayout& layout, std::string_view title, const std::string& name) {
  if (title == "system") {
    layout.has_system = true;
    return layout.system;
  }
  if (title == "record") {
    layout.has_record = true;
    return layout.record;
  }
  if (title != "user") {
    refuse(name, "unknown section '" + std::string(title) + "', known are system, user and record");
  }
  return layout.user;
}

}  // namespace

RecordValue RecordValue::of(std::string text) {
  return {Kind::text, std::move(text), {}};
}

RecordValue RecordValue::list(std::vector<RecordValue> values) {
  RecordValue list{Kind::list, {}, {}};
  for (auto& value : values) list.entries.emplace_back(std::string(), std::move(value));
  return list;
}

RecordValue RecordValue::map(std::vector<std::pair<std::string, RecordValue>> values) {
  return {Kind::map, {}, std::move(values)};
}

std::string render_records(std::span<const RecordValue> records) {
  std::string out;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (i > 0) out += "\n\n";
    out += "# Example " + std::to_string(i + 1) + "\n";
    if (records[i].kind != RecordValue::Kind::map || !records[i].entries.empty()) {
      render_value(out, records[i], 2);
    }
  }
  return out;
}

std::string fill_placeholders(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  std::string out;
  while (!text.empty()) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) {
      return text.starts_with(value.first);
    });
    if (found != values.end()) {
      out += found->second;
      text.remove_prefix(found->first.size());
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

std::string head_and_tail(std::string_view text, std::int64_t bytes) {
  const auto limit = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 0));
  if (limit == 0 || text.size() <= limit) return std::string(text);
  const std::size_t kept = limit > cut_mark.size() ? limit - cut_mark.size() : 0;
  std::size_t head = kept - kept / 2;
  std::size_t tail = text.size() - kept / 2;
  while (head > 0 && continuation_byte(text[head])) --head;
  while (tail < text.size() && continuation_byte(text[tail])) ++tail;
  std::string out(text.substr(0, head));
  out += kept > 0 ? cut_mark : std::string_view();
  out += text.substr(tail);
  return out;
}

ReflectionLayout parse_layout(std::string_view text, const std::string& name) {
  ReflectionLayout layout;
  std::string* current = nullptr;
  std::set<std::string> seen;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("%% ")) {
      if (current != nullptr) current->append(line).push_back('\n');
      continue;
    }
    const std::string_view title = strip(line.substr(3));
    if (!seen.emplace(title).second) refuse(name, "section '" + std::string(title) + "' twice");
    current = &section(layout, title, name);
  }
  for (std::string* part : {&layout.system, &layout.user, &layout.record}) {
    if (part->ends_with('\n')) part->pop_back();
  }
  if (!seen.contains("user")) refuse(name, "no section 'user'");
  const auto holds = [](const std::string& part, std::string_view placeholder) {
    return part.find(placeholder) != std::string::npos;
  };
  if (!holds(layout.user, current_prompt) && !holds(layout.system, current_prompt)) {
    refuse(name, "neither 'user' nor 'system' holds the placeholder <curr_param>");
  }
  if (!holds(layout.user, side_info)) refuse(name, "'user' lacks the placeholder <side_info>");
  return layout;
}

ReflectionChat render_reflection(const ReflectionLayout& layout, std::string_view prompt,
                                 std::span<const Evidence> evidence, const RenderOptions& options) {
  const std::string records = render_evidence(layout, evidence, options);
  const auto fill = [&](const std::string& text) {
    return fill_placeholders(text, {{current_prompt, prompt}, {side_info, records}});
  };
  return {fill(layout.system), fill(layout.user), layout.has_system};
}

}  // namespace fst
