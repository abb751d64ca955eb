#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "fst/base/error.h"
#include "fst/model/chat.h"

namespace fst {

namespace {

enum class Kind { text, statement };
struct Node {
  Kind kind;
  std::string content;  // statement: its tokens; text: output, with {path} for a variable
};

[[noreturn]] void not_closed(const char* what, std::size_t offset) {
  throw InputError(std::string("chat template: ") + what + " opened at byte " +
                   std::to_string(offset) + " is not closed");
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

/// Text as it stands in the normal form: braces are escaped, since they mark tags there.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '{' || c == '}' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

struct Token {
  bool literal;
  std::string text;  // of a string literal: its value
};

/// The tokens of an expression or statement; `offset`: its place in the template.
std::vector<Token> tokens_of(std::string_view code, std::size_t offset) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < code.size();) {
    const char c = code[i];
    const std::size_t start = i;
    if (is_space(c)) {
      ++i;
    } else if (c == '\'' || c == '"') {
      std::string value;
      for (++i; i < code.size() && code[i] != c; ++i) {
        if (code[i] != '\\' || i + 1 == code.size()) {
          value += code[i];
          continue;
        }
        const char escape = code[++i];
        value += escape == 'n' ? '\n' : escape == 't' ? '\t' : escape == 'r' ? '\r' : escape;
      }
      if (i == code.size()) not_closed("string", offset + start);
      ++i;
      tokens.push_back({true, value});
    } else if (is_word(c)) {
      while (i < code.size() && is_word(code[i])) ++i;
      tokens.push_back({false, std::string(code.substr(start, i - start))});
    } else {
      const std::string_view pair = code.substr(i, 2);
      i += pair == "==" || pair == "!=" || pair == "<=" || pair == ">=" || pair == "//" ? 2 : 1;
      tokens.push_back({false, std::string(code.substr(start, i - start))});
    }
  }
  return tokens;
}

/// a['b'] and a[0] become a.b and a.0.
std::vector<Token> with_dots(const std::vector<Token>& tokens) {
  const auto sign = [&](std::size_t i, const char* text) {
    return i < tokens.size() && !tokens[i].literal && tokens[i].text == text;
  };
  const auto name = [](const Token& token) {
    return !token.text.empty() && std::all_of(token.text.begin(), token.text.end(), is_word);
  };
  std::vector<Token> out;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool subscript = !out.empty() && !out.back().literal && name(out.back()) &&
                           sign(i, "[") && sign(i + 2, "]") && name(tokens[i + 1]);
    if (subscript) {
      out.push_back({false, "."});
      out.push_back({false, tokens[i + 1].text});
      i += 2;
    } else {
      out.push_back(tokens[i]);
    }
  }
  return out;
}

std::string joined(const std::vector<Token>& tokens) {
  std::string out;
  for (const Token& token : tokens) {
    const bool tight = token.text == "." || out.empty() || out.back() == '.';
    if (!tight || token.literal) out += ' ';
    if (token.literal) {
      out.append("'").append(escaped(token.text)).append("'");
    } else {
      out += token.text;
    }
  }
  return out;
}

/// An output expression: sums of literals and variables become text, anything else {= tokens}.
std::string output_of(std::string_view code, std::size_t offset) {
  const std::vector<Token> tokens = with_dots(tokens_of(code, offset));
  std::string out;
  bool operand = true;  // expected next
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& token = tokens[i];
    if (operand && token.literal) {
      out += escaped(token.text);
    } else if (operand && is_word(token.text[0])) {
      std::string path = token.text;
      while (i + 2 < tokens.size() && tokens[i + 1].text == "." && !tokens[i + 1].literal) {
        path += "." + tokens[i + 2].text;
        i += 2;
      }
      out += "{" + path + "}";
    } else if (operand || token.literal || (token.text != "+" && token.text != "~")) {
      return "{=" + joined(tokens) + "}";
    }
    operand = !operand;
  }
  return out;
}

/// Where the tag that starts at `open` ends: just behind its "%}", "}}" or "#}".
std::size_t end_of_tag(std::string_view jinja, std::size_t open) {
  const char kind = jinja[open + 1];
  const std::array<char, 2> close = {kind == '{' ? '}' : kind, '}'};
  char quote = '\0';
  for (std::size_t i = open + 2; i + 1 < jinja.size(); ++i) {
    const char c = jinja[i];
    if (quote != '\0') {
      if (c == '\\') {
        ++i;
      } else if (c == quote) {
        quote = '\0';
      }
    } else if (kind != '#' && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == close[0] && jinja[i + 1] == close[1]) {
      return i + 2;
    }
  }
  not_closed("tag", open);
}

std::size_t next_tag(std::string_view jinja, std::size_t from) {
  for (std::size_t i = from; i + 1 < jinja.size(); ++i) {
    if (jinja[i] == '{' && (jinja[i + 1] == '{' || jinja[i + 1] == '%' || jinja[i + 1] == '#')) {
      return i;
    }
  }
  return jinja.size();
}

void append_text(std::vector<Node>& nodes, const std::string& text) {
  if (text.empty()) return;
  if (nodes.empty() || nodes.back().kind != Kind::text) nodes.push_back({Kind::text, ""});
  nodes.back().content += text;
}

/// Raw text before a tag: "{%-" trims all space before it, "{%" the indentation of its line.
std::string_view trimmed_end(std::string_view raw, bool trims, bool block) {
  std::size_t end = raw.size();
  while (end > 0 && is_space(raw[end - 1]) && (trims || raw[end - 1] != '\n')) --end;
  const bool line_start = end == 0 || raw[end - 1] == '\n';
  return trims || (block && line_start) ? raw.substr(0, end) : raw;
}

std::vector<Node> nodes_of(std::string_view jinja) {
  std::vector<Node> nodes;
  // Jinja drops one newline at the end of a template.
  if (!jinja.empty() && jinja.back() == '\n') jinja.remove_suffix(1);
  for (std::size_t i = 0; i < jinja.size();) {
    const std::size_t open = next_tag(jinja, i);
    std::string_view raw = jinja.substr(i, open - i);
    if (open == jinja.size()) {
      append_text(nodes, escaped(raw));
      break;
    }
    std::size_t end = end_of_tag(jinja, open);
    const bool block = jinja[open + 1] != '{';
    std::string_view code = jinja.substr(open + 2, end - open - 4);
    const auto starts = [&](char c) { return !code.empty() && code.front() == c; };
    const auto ends = [&](char c) { return !code.empty() && code.back() == c; };
    const bool keep_before = starts('+'), trim_before = starts('-');
    append_text(nodes, escaped(trimmed_end(raw, trim_before, block && !keep_before)));
    if (keep_before || trim_before) code.remove_prefix(1);
    const bool keep_after = ends('+'), trim_after = ends('-');
    if (keep_after || trim_after) code.remove_suffix(1);
    if (jinja[open + 1] == '{') append_text(nodes, output_of(code, open + 2));
    if (jinja[open + 1] == '%') {
      nodes.push_back({Kind::statement, joined(with_dots(tokens_of(code, open + 2)))});
    }
    while (trim_after && end < jinja.size() && is_space(jinja[end])) ++end;
    if (block && !trim_after && !keep_after && jinja.substr(end, 1) == "\n") ++end;
    i = end;
  }
  return nodes;
}

/// Conditions whose value is known for a plain conversation: every content is a string, there are
/// no tools, no tool calls and no tool answers.
enum class Truth { no, yes, open };
Truth truth_of(const std::string& condition) {
  if (condition == "tools" || condition == "message.tool_calls" ||
      condition == "message.role == 'tool'") {
    return Truth::no;
  }
  return condition == "message.content is string" ? Truth::yes : Truth::open;
}

/// Drops the branches that a plain conversation never takes, from nodes[i] to the end of its block.
class Pruner {
 public:
  explicit Pruner(const std::vector<Node>& nodes) : nodes_(nodes) {}

  std::vector<Node> run() {
    while (i_ < nodes_.size()) block(true, 0);
    return std::move(out_);
  }

 private:
  static constexpr int depth_limit = 100;  // Qwen3's template nests six deep
  static bool begins(const std::string& text, const char* word) { return text.rfind(word, 0) == 0; }

  void emit(Kind kind, const std::string& content, bool live) {
    if (!live) return;
    if (kind == Kind::text) return append_text(out_, content);
    out_.push_back({kind, content});
  }

  /// One node, or a whole if ... endif.
  void block(bool live, int depth) {
    if (depth > depth_limit) throw InputError("chat template: nested too deeply");
    const Node& node = nodes_[i_++];
    if (node.kind == Kind::text || !begins(node.content, "if ")) {
      return emit(node.kind, node.content, live);
    }
    std::string condition = node.content.substr(3);
    bool opened = false;   // an "if" is in the output
    bool decided = false;  // an earlier branch is always taken
    for (;;) {
      const Truth truth = truth_of(condition);
      const bool taken = live && !decided && truth != Truth::no;
      if (taken && truth == Truth::open) {
        emit(Kind::statement, (opened ? "elif " : "if ") + condition, true);
        opened = true;
      } else if (taken && opened) {
        emit(Kind::statement, "else", true);
      }
      decided = decided || truth == Truth::yes;
      while (i_ < nodes_.size() && !ends_branch(nodes_[i_])) block(taken, depth + 1);
      if (i_ == nodes_.size()) throw InputError("chat template: an if without its endif");
      const std::string& end = nodes_[i_++].content;
      if (end == "endif") break;
      // "else" is a branch whose condition always holds.
      condition = end == "else" ? "message.content is string" : end.substr(5);
    }
    emit(Kind::statement, "endif", opened && live);
  }

  static bool ends_branch(const Node& node) {
    return node.kind == Kind::statement &&
           (node.content == "endif" || node.content == "else" || begins(node.content, "elif "));
  }

  const std::vector<Node>& nodes_;
  std::size_t i_ = 0;
  std::vector<Node> out_;
};

}  // namespace

std::string template_normal_form(std::string_view jinja) {
  const std::vector<Node> nodes = nodes_of(jinja);
  std::string out;
  for (const Node& node : Pruner(nodes).run()) {
    out += node.kind == Kind::text ? node.content : "{%" + node.content + "%}";
  }
  return out;
}

}  // namespace fst
