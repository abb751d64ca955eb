#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "values.h"

/// Descriptors of the stand-in for cuDNN: what was set, and what is wrong with it. What is wrong is
/// thrown as Error.
namespace fst::cudnn_stand_in {

using namespace cudnn;

inline constexpr std::int64_t plan_workspace = 1000;  // bytes, overwritten by every execution
inline constexpr std::int64_t engines = 2;            // of which the first supports nothing

struct Node {
  Kind kind;
  bool finalized = false;
  std::map<Attribute, std::vector<std::int64_t>> values;  // numbers, and addresses of nodes
  std::int64_t engine = 0;
};

struct Library {
  std::string last_error;
  std::set<const Node*> alive;
  std::map<std::string, int> calls;
};
Library& library();

/// The words of FST_CUDNN_STAND_IN, at least three.
std::vector<std::string> asked();
void fail_if_asked(const char* call);
void expect(bool good, const char* what);

Node& node_of(const void* handle);
const std::vector<std::int64_t>& all_of(const Node& node, Attribute attribute);
std::int64_t one_of(const Node& node, Attribute attribute, std::int64_t otherwise);
/// What an attribute refers to; nullptr: it is not set.
const Node* link_of(const Node& node, Attribute attribute);
const Node& needed(const Node& node, Attribute attribute);
Shape shape_of(const Node& tensor);

void set_attribute(Node& node, Attribute attribute, Element element, std::int64_t count,
                   const void* values);
/// Whether it may be finalized.
void judge(const Node& node);

}  // namespace fst::cudnn_stand_in
