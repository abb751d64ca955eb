#include <cstdio>
#include <link.h>
#include <unistd.h>

#include "machine.h"

namespace fst::emulator {
namespace {

struct Report {
  std::string text;
  const void* guilty = nullptr;  // the code behind what it is about
} noted;

/// " at file.cu:12" from the program's debugging information.
std::string source_of(const void* code) {
  char command[128];
  std::snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%zx 2>&1", getpid(),
                reinterpret_cast<std::uintptr_t>(code) - 1 - program_base());
  FILE* const lines = popen(command, "r");
  if (lines == nullptr) return "";
  std::string text;
  char line[1024];
  while (std::fgets(line, sizeof line, lines) != nullptr) {  // inlined functions first
    std::string place = line;
    place = place.substr(place.find_last_of('/') + 1);
    place = place.substr(0, place.find_first_of(" \n"));
    if (text.empty() && place.rfind("emulate.h", 0) != 0) text = " at " + place;
  }
  pclose(lines);
  return text;
}

}  // namespace

std::uintptr_t program_base() {
  std::uintptr_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* to) {
        *static_cast<std::uintptr_t*>(to) = object->dlpi_addr;
        return 1;  // the first is the program
      },
      &base);
  return base;
}

const std::string& report() {
  return noted.text;
}
std::string forget_report() {
  return std::exchange(noted.text, {});
}

void note_failure(std::string what) {
  if (noted.text.empty()) noted.text = std::move(what);
}

void fail(std::string what, const void* code) {
  if (noted.text.empty()) noted.guilty = code;
  note_failure(current_thread_name() + ": " + std::move(what));
  abandon_launch();
}

void complete_report() {
  if (noted.guilty != nullptr) noted.text += source_of(std::exchange(noted.guilty, nullptr));
}

std::string current_thread_name() {
  return "thread " + std::to_string(current.thread) + " of block (" + std::to_string(blockIdx.x) +
         "," + std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + ")";
}

std::string text_of(const Place& place) {
  const std::string path = place.file_name();
  return path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(place.line());
}

}  // namespace fst::emulator
