#include "fst/base/error.h"
#include "fst/store/h5.h"

namespace fst::h5 {

namespace {

// Attributes live in the object header, whose messages end at 64 KiB.
constexpr std::size_t most_attribute_bytes = 64'000;

herr_t note_name(hid_t, const char* name, const H5A_info_t*, void* into) {
  static_cast<std::vector<std::string>*>(into)->emplace_back(name);
  return 0;
}

void replace(hid_t object, const std::string& name, hid_t type, const void* value) {
  const htri_t there = H5Aexists(object, name.c_str());
  FST_H5_CHECK(there);
  if (there > 0) FST_H5_CHECK(H5Adelete(object, name.c_str()));
  const Handle space(FST_H5_CHECK(H5Screate(H5S_SCALAR)), H5Sclose);
  const Handle attribute(
      FST_H5_CHECK(H5Acreate2(object, name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT)),
      H5Aclose);
  FST_H5_CHECK(H5Awrite(attribute.id(), type, value));
}

Handle open_object(hid_t file, const std::string& path) {
  return {check(H5Oopen(file, path.c_str(), H5P_DEFAULT), ("open " + path).c_str()), H5Oclose};
}

Handle open_attribute(hid_t object, const std::string& file, const std::string& path,
                      const std::string& name) {
  const hid_t id = H5Aopen(object, name.c_str(), H5P_DEFAULT);
  if (id < 0) throw Error(file + ": " + path + " has no attribute " + name);
  return {id, H5Aclose};
}

std::string read_text(hid_t attribute, const std::string& what) {
  const Handle type(FST_H5_CHECK(H5Aget_type(attribute)), H5Tclose);
  const bool fixed_text =
      H5Tget_class(type.id()) == H5T_STRING && H5Tis_variable_str(type.id()) == 0;
  if (!fixed_text) throw Error(what + " is not a text of fixed length");
  std::string text(H5Tget_size(type.id()), '\0');
  FST_H5_CHECK(H5Aread(attribute, type.id(), text.data()));
  text.resize(text.find_last_not_of('\0') + 1);
  return text;
}

}  // namespace

void File::set_attribute(const std::string& object, const std::string& name,
                         std::string_view text) {
  if (text.size() > most_attribute_bytes) {
    throw Error(path_.string() + ": attribute " + name + " of " + std::to_string(text.size()) +
                " bytes; at most " + std::to_string(most_attribute_bytes) + " fit");
  }
  const Handle owner = open_object(file_.id(), object);
  const Handle type(FST_H5_CHECK(H5Tcopy(H5T_C_S1)), H5Tclose);
  FST_H5_CHECK(H5Tset_size(type.id(), text.size() + 1));
  FST_H5_CHECK(H5Tset_cset(type.id(), H5T_CSET_UTF8));
  replace(owner.id(), name, type.id(), std::string(text).c_str());
}

void File::set_attribute(const std::string& object, const std::string& name, std::int64_t number) {
  const Handle owner = open_object(file_.id(), object);
  replace(owner.id(), name, H5T_STD_I64LE, &number);
}

void File::set_variable_text(const std::string& object, const std::string& name,
                             const std::string& text) {
  const Handle owner = open_object(file_.id(), object);
  const Handle type(FST_H5_CHECK(H5Tcopy(H5T_C_S1)), H5Tclose);
  FST_H5_CHECK(H5Tset_size(type.id(), H5T_VARIABLE));
  FST_H5_CHECK(H5Tset_cset(type.id(), H5T_CSET_UTF8));
  const char* value = text.c_str();
  replace(owner.id(), name, type.id(), &value);
}

bool File::has_attribute(const std::string& object, const std::string& name) const {
  const Handle owner = open_object(file_.id(), object);
  return FST_H5_CHECK(H5Aexists(owner.id(), name.c_str())) > 0;
}

std::string File::text_attribute(const std::string& object, const std::string& name) const {
  const Handle owner = open_object(file_.id(), object);
  const Handle attribute = open_attribute(owner.id(), path_.string(), object, name);
  return read_text(attribute.id(), path_.string() + ": attribute " + name + " of " + object);
}

std::int64_t File::integer_attribute(const std::string& object, const std::string& name) const {
  const Handle owner = open_object(file_.id(), object);
  const Handle attribute = open_attribute(owner.id(), path_.string(), object, name);
  std::int64_t number = 0;
  FST_H5_CHECK(H5Aread(attribute.id(), H5T_NATIVE_INT64, &number));
  return number;
}

std::vector<std::string> File::attributes(const std::string& object) const {
  const Handle owner = open_object(file_.id(), object);
  std::vector<std::string> lines;
  FST_H5_CHECK(H5Aiterate2(owner.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, note_name, &lines));
  for (std::string& line : lines) {
    const Handle attribute = open_attribute(owner.id(), path_.string(), object, line);
    const Handle type(FST_H5_CHECK(H5Aget_type(attribute.id())), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type.id());
    const std::string name = line;
    if (kind == H5T_STRING) line += " = " + read_text(attribute.id(), name);
    if (kind == H5T_INTEGER) line += " = " + std::to_string(integer_attribute(object, name));
  }
  return lines;
}

}  // namespace fst::h5
