#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fst/tensor/tensor.h"

namespace fst {

/// One tensor of a mapped file, little-endian, row-major. `bytes` lies in the mapping: it is valid
/// as long as the reader and not necessarily aligned.
struct StoredTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::string file;  // for messages

  std::int64_t size() const;
};

/// Reads Hugging Face's safetensors files through a memory map. Nothing in a file is trusted: the
/// constructor checks every header (length, JSON, dtypes, shapes, offsets that leave no hole and do
/// not overlap, duplicate names) and throws InputError naming file and tensor.
class SafetensorsReader {
 public:
  /// `path`: one .safetensors file, or a folder that holds model.safetensors or the shards that
  /// model.safetensors.index.json lists.
  explicit SafetensorsReader(const std::filesystem::path& path);
  ~SafetensorsReader();
  SafetensorsReader(SafetensorsReader&&) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) noexcept;

  /// Ascending by name.
  std::span<const StoredTensor> tensors() const { return tensors_; }
  /// nullptr if there is none of this name.
  const StoredTensor* find(const std::string& name) const;

 private:
  class Mapping;
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index);
  void sort_and_check_names();

  std::vector<std::unique_ptr<Mapping>> mappings_;
  std::vector<StoredTensor> tensors_;
};

/// A tensor to write: contiguous `values`, f32 or bf16, that are stored as `storage`.
struct TensorToWrite {
  std::string name;
  std::vector<std::int64_t> shape;
  Tensor values;
};

/// Writes `tensors`, sorted by name, as `storage` (f32, or bf16 rounded to nearest even) with a
/// header padded to 64 bytes. Written under a temporary name in the same folder, flushed to the
/// disk and renamed, so `file` is never half written. Throws Error where the file system fails.
void write_safetensors(const std::filesystem::path& file, std::vector<TensorToWrite> tensors,
                       DType storage);

/// values[i] = the stored element i, widened exactly from f32, bf16 or f16; other dtypes throw
/// InputError naming the tensor, as does a value that is not finite. `values` f32, contiguous, with
/// as many elements as `stored`.
void read_values(Tensor& values, const StoredTensor& stored);

/// The same for a block: values [rows, columns] begins at (row, column) of a stored matrix; of a
/// stored vector, values [n] at `column`. Only the block's pages of the file are touched.
void read_block(Tensor& values, const StoredTensor& stored, std::int64_t row, std::int64_t column);

}  // namespace fst
