#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace fst {

/// The name to write under until complete: beside `target`, ending in ".tmp".
std::filesystem::path temporary_name(const std::filesystem::path& target);
/// fsync the file, rename it to `target`, fsync the folder. After it, `target` is complete on disk.
void publish(const std::filesystem::path& temporary, const std::filesystem::path& target);
/// Writes `text` under a temporary name and publishes it; on failure nothing is left.
void write_text(const std::filesystem::path& target, std::string_view text);
/// The whole file. Throws Error naming it if it cannot be read.
std::string read_text(const std::filesystem::path& file);
/// Throws Error naming needed and available bytes if `folder`'s disk, quota or file size limit has
/// no room for a file of `bytes` more.
void expect_space(const std::filesystem::path& folder, std::int64_t bytes);
/// Removes leftover files of ours that end in ".tmp".
void remove_temporaries(const std::filesystem::path& folder);

}  // namespace fst
