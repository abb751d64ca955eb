// Stands in for libcudnn.so.9 where GPUs are emulated (FST_CUDNN_LIBRARY): cuDNN's backend
// interface, as far as the program uses it, computing whatever graph it is given, operation by
// operation, in float. It is as strict as cuDNN may be: an attribute has its type and count, is set
// before finalization and refers to what is finalized; what lies beyond a sequence's end is NaN,
// reaches no sum whose extent is given, and is not written.
//
//   FST_CUDNN_STAND_IN=version:91000   what cudnnGetVersion tells
//   FST_CUDNN_STAND_IN=fail:CALL:N     the N-th CALL fails, from 1: create, plan or execute

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "execution.h"

using namespace fst::cudnn_stand_in;

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace {

constexpr auto bad_parameter = static_cast<Status>(2000);
constexpr auto not_supported = static_cast<Status>(3000);
constexpr auto execution_failed = static_cast<Status>(5000);

/// Runs f; an Error is `failure`, with the error's text as the library's last.
template <class F>
Status guarded(Status failure, F&& f) {
  library().last_error.clear();
  try {
    f();
    return success;
  } catch (const std::exception& error) {
    library().last_error = error.what();
    return failure;
  }
}

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() {
  const auto words = asked();
  return words[0] == "version" ? static_cast<std::size_t>(std::atoi(words[1].c_str())) : 91900;
}
const char* cudnnGetErrorString(Status status) {
  return status == not_supported   ? "CUDNN_STATUS_NOT_SUPPORTED"
         : status == bad_parameter ? "CUDNN_STATUS_BAD_PARAM"
                                   : "CUDNN_STATUS_EXECUTION_FAILED";
}
void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::snprintf(message, size, "%s", library().last_error.c_str());
}

Status cudnnCreate(Handle* handle) {
  return guarded(execution_failed, [&] {
    fail_if_asked("create");
    *handle = new cudnnContext;
  });
}
Status cudnnDestroy(Handle handle) {
  delete handle;
  return success;
}
Status cudnnSetStream(Handle handle, void* stream) {
  handle->stream = static_cast<cudaStream_t>(stream);
  return success;
}

Status cudnnBackendCreateDescriptor(Kind kind, DescriptorHandle* made) {
  auto* const node = new Node{kind, false, {}, 0};
  library().alive.insert(node);
  *made = node;
  return success;
}
Status cudnnBackendDestroyDescriptor(DescriptorHandle handle) {
  return guarded(bad_parameter, [&] {
    const std::unique_ptr<Node> node(&node_of(handle));
    library().alive.erase(node.get());
  });
}
Status cudnnBackendSetAttribute(DescriptorHandle handle, Attribute attribute, Element element,
                                std::int64_t count, const void* values) {
  return guarded(bad_parameter,
                 [&] { set_attribute(node_of(handle), attribute, element, count, values); });
}
Status cudnnBackendFinalize(DescriptorHandle handle) {
  return guarded(not_supported, [&] {
    Node& node = node_of(handle);
    judge(node);
    node.finalized = true;
  });
}
Status cudnnBackendGetAttribute(DescriptorHandle handle, Attribute attribute, Element /*element*/,
                                std::int64_t room, std::int64_t* count, void* values) {
  return guarded(bad_parameter, [&] {
    const Node& node = node_of(handle);
    expect(node.finalized, "what is not finalized tells nothing");
    if (attribute == Attribute::plan_workspace) {
      std::memcpy(values, &plan_workspace, sizeof plan_workspace);
      *count = 1;
      return;
    }
    expect(attribute == Attribute::heuristics_results && room >= engines, "another attribute");
    for (std::int64_t engine = 0; engine < engines; ++engine) {
      Node& configuration = node_of(static_cast<void**>(values)[engine]);
      configuration.engine = engine;
      configuration.finalized = true;
      configuration.values[Attribute::heuristics_graph] = all_of(node, Attribute::heuristics_graph);
    }
    *count = engines;
  });
}
Status cudnnBackendExecute(Handle handle, DescriptorHandle plan_handle, DescriptorHandle pack) {
  return guarded(execution_failed, [&] {
    fail_if_asked("execute");
    const Node& configuration = needed(node_of(plan_handle), Attribute::plan_configuration);
    const Node& graph = needed(configuration, Attribute::heuristics_graph);
    execute(graph, node_of(pack), handle->stream);
  });
}

}  // extern "C"
