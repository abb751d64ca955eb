#include <sstream>

#include "fst/store/digest.h"
#include "fst/store/envelope.h"
#include "fst/store/h5.h"

#include "checkpoint_layout.h"
#include "history_file.h"

namespace fst {

namespace {

void print_table(std::ostream& text, const Table& table, std::int64_t rows) {
  text << "  " << table.name() << ": " << rows << (rows == 1 ? " row" : " rows") << " of";
  for (std::size_t i = table.begin; i < table.end; ++i) text << " " << columns[i].name();
  text << "\n";
}

void print_dataset(std::ostream& text, const h5::File& file, const std::string& path) {
  text << "  " << path << ": " << h5::name_of(file.element(path)) << " [";
  const char* separator = "";
  for (const std::int64_t size : file.dims(path)) {
    text << separator << size;
    separator = ", ";
  }
  text << "]";
  if (file.has_attribute(path, "kind")) text << ", " << file.text_attribute(path, "kind");
  if (file.has_attribute(path, "use") && file.text_attribute(path, "use") == "report") {
    text << ", not in the digest";
  }
  text << "\n";
}

}  // namespace

std::string info(const std::filesystem::path& path) {
  check_envelope(Communicator::self(), path);
  std::ostringstream text;
  const h5::File file = h5::File::open(path);
  const std::string type =
      file.has_attribute("/", "filetype") ? file.text_attribute("/", "filetype") : "HDF5 file";
  text << path.string() << ": " << type << ", " << std::filesystem::file_size(path) << " bytes\n";
  for (const std::string& line : file.attributes("/")) {
    if (!line.starts_with("config = ")) text << "  " << line << "\n";
  }
  if (type == "fst history") {
    const TableRows rows = HistoryFile::open(path).rows();
    for (std::size_t t = 0; t < tables.size(); ++t) print_table(text, tables[t], rows[t]);
  } else {
    for (const std::string& name : file.datasets()) {
      if (!name.starts_with(checkpoint::sums_path("/"))) print_dataset(text, file, name);
    }
  }
  if (file.has_attribute("/", "config")) {
    text << "configuration:\n" << file.text_attribute("/", "config") << "\n";
  }
  return text.str();
}

}  // namespace fst
