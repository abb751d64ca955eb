// A libcuda.so.1 without devices, for plans of a GPU that is not there: what cuDNN looks up of the
// driver when it makes them. Its compiled kernels are "loaded", nothing is ever launched.

namespace {

constexpr int success = 0, no_device = 100;  // CUresult
int loaded = 0;                              // its address stands for libraries and kernels

}  // namespace

extern "C" {

int cuInit(unsigned /*flags*/) {
  return no_device;
}
int cuLibraryLoadData(void** library) {
  *library = &loaded;
  return success;
}
int cuLibraryGetKernel(void** kernel) {
  *kernel = &loaded;
  return success;
}
int cuGetErrorString(int /*error*/, const char** text) {
  *text = "there is no driver";
  return success;
}

#define FST_NO_DRIVER(name) \
  int name() {              \
    return no_device;       \
  }
FST_NO_DRIVER(cuCtxGetCurrent)
FST_NO_DRIVER(cuCtxGetLimit)
FST_NO_DRIVER(cuCtxPopCurrent)
FST_NO_DRIVER(cuCtxPushCurrent)
FST_NO_DRIVER(cuDeviceGet)
FST_NO_DRIVER(cuDeviceGetCount)
FST_NO_DRIVER(cuDriverGetVersion)
FST_NO_DRIVER(cuGetErrorName)
FST_NO_DRIVER(cuKernelGetAttribute)
FST_NO_DRIVER(cuKernelSetAttribute)
FST_NO_DRIVER(cuLaunchCooperativeKernel)
FST_NO_DRIVER(cuLaunchKernel)
FST_NO_DRIVER(cuLaunchKernelEx)
FST_NO_DRIVER(cuLibraryLoadFromFile)
FST_NO_DRIVER(cuLibraryUnload)
FST_NO_DRIVER(cuLinkAddData)
FST_NO_DRIVER(cuLinkComplete)
FST_NO_DRIVER(cuLinkCreate)
FST_NO_DRIVER(cuLinkDestroy)
FST_NO_DRIVER(cuOccupancyMaxPotentialClusterSize)
FST_NO_DRIVER(cuStreamGetCtx)
#undef FST_NO_DRIVER

}  // extern "C"
