#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace fst {

/// The small files of a model folder by name (config.json, tokenizer.json, ...): everything but the
/// weights. A checkpoint carries them, so that it can be used wherever a folder can.
using ModelFiles = std::map<std::string, std::string>;

/// Names that a folder may hold and that are kept with its weights.
inline constexpr const char* model_file_names[] = {
    "config.json",         "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
    "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt"};

/// Those that `folder` holds. Throws InputError for one that cannot be read.
ModelFiles read_model_folder(const std::filesystem::path& folder);

}  // namespace fst
