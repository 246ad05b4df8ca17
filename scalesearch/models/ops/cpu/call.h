// What every kernel needs: the operands of an XLA call, its threads, and vectors of floats.
//
// The C interface of XLA's foreign functions (jaxlib's xla/ffi/api/c_api.h) is read directly: its C++ wrapper takes
// longer to compile than all kernels together.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#include "xla/ffi/api/c_api.h"

namespace scalesearch {

// One call: arrays in, float32 unless said otherwise, float32 arrays out, whole numbers as attributes.
class Call {
 public:
  explicit Call(XLA_FFI_CallFrame* frame) : frame_(frame) {}

  template <class Number = float>
  const Number* in(int i) const { return static_cast<const Number*>(argument(i)->data); }
  float* out(int i) const { return static_cast<float*>(result(i)->data); }
  int64_t in_dim(int i, int axis) const { return argument(i)->dims[axis]; }
  int64_t out_dim(int i, int axis) const { return result(i)->dims[axis]; }

  int results() const { return static_cast<int>(frame_->rets.size); }
  int64_t in_floats(int i) const { return floats(argument(i)); }
  int64_t out_floats(int i) const { return floats(result(i)); }

  int64_t attribute(const char* name) const {
    const XLA_FFI_Attrs& attributes = frame_->attrs;
    for (int64_t i = 0; i < attributes.size; ++i) {
      const XLA_FFI_ByteSpan* key = attributes.names[i];
      if (key->len == std::strlen(name) && std::memcmp(key->ptr, name, key->len) == 0)
        return *static_cast<const int64_t*>(static_cast<const XLA_FFI_Scalar*>(attributes.attrs[i])->value);
    }
    return 0;
  }

  // body(i) for i = 0 … count − 1, on XLA's threads and this one. What a part computes may not depend on the thread
  // that computes it, so that results are the same on any number of threads.
  template <class Body>
  void parallel(int64_t count, const Body& body) const {
    const int64_t helpers = std::min(threads(), count) - 1;
    if (helpers < 1) {
      for (int64_t i = 0; i < count; ++i) body(i);
      return;
    }
    auto* work = new Work{count, static_cast<int>(helpers) + 1, &body,
                          [](const void* b, int64_t i) { (*static_cast<const Body*>(b))(i); }};
    for (int64_t i = 0; i < helpers; ++i) schedule(work);
    work->take();
    // Helpers are already computing the parts that they took. Nothing waits in a queue, so there is no deadlock.
    while (work->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
    const bool failed = work->failed.load();
    work->release();
    if (failed) throw std::bad_alloc();  // nothing else is thrown here
  }

 private:
  // Free threads take the parts one after the other. It outlives the call until the last helper has released it.
  struct Work {
    Work(int64_t parts, int users, const void* what, void (*how)(const void*, int64_t))
        : count(parts), references(users), body(what), run(how) {}

    void take() {
      for (int64_t i; (i = next.fetch_add(1)) < count; done.fetch_add(1, std::memory_order_release)) {
        try {
          run(body, i);
        } catch (...) {  // the caller throws once no helper uses its data any more
          failed.store(true);
        }
      }
    }
    void release() {
      if (references.fetch_sub(1) == 1) delete this;
    }

    const int64_t count;
    std::atomic<int> references;
    const void* body;
    void (*run)(const void*, int64_t);
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> failed{false};
  };

  const XLA_FFI_Buffer* argument(int i) const { return static_cast<const XLA_FFI_Buffer*>(frame_->args.args[i]); }
  const XLA_FFI_Buffer* result(int i) const { return static_cast<const XLA_FFI_Buffer*>(frame_->rets.rets[i]); }

  static int64_t floats(const XLA_FFI_Buffer* buffer) {
    int64_t count = 1;
    for (int64_t axis = 0; axis < buffer->rank; ++axis) count *= buffer->dims[axis];
    return count;
  }

  int64_t threads() const {
    int64_t count = 1;
    XLA_FFI_ThreadPool_NumThreads_Args arguments{};
    arguments.struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE;
    arguments.ctx = frame_->ctx;
    arguments.num_threads = &count;
    return forget(frame_->api->XLA_FFI_ThreadPool_NumThreads(&arguments)) ? count : 1;
  }

  void schedule(Work* work) const {
    XLA_FFI_ThreadPool_Schedule_Args arguments{};
    arguments.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
    arguments.ctx = frame_->ctx;
    arguments.data = work;
    arguments.task = [](void* data) {
      static_cast<Work*>(data)->take();
      static_cast<Work*>(data)->release();
    };
    if (!forget(frame_->api->XLA_FFI_ThreadPool_Schedule(&arguments))) work->release();
  }

  // Whether there was no error; one is destroyed, since what it stands for can be done without.
  bool forget(XLA_FFI_Error* error) const {
    if (error == nullptr) return true;
    XLA_FFI_Error_Destroy_Args arguments{};
    arguments.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE;
    arguments.error = error;
    frame_->api->XLA_FFI_Error_Destroy(&arguments);
    return false;
  }

  XLA_FFI_CallFrame* frame_;
};

// Answers XLA's question for the version of the interface, or runs `kernel`.
template <class Kernel>
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame, Kernel kernel) {
  auto* extension = frame->extension_start;
  if (extension != nullptr && extension->type == XLA_FFI_Extension_Metadata) {
    XLA_FFI_Metadata* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return nullptr;
  }
  try {
    kernel(Call(frame));
    return nullptr;
  } catch (const std::exception& error) {  // memory
    XLA_FFI_Error_Create_Args arguments{};
    arguments.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
    arguments.message = error.what();
    arguments.errc = XLA_FFI_Error_Code_RESOURCE_EXHAUSTED;
    return frame->api->XLA_FFI_Error_Create(&arguments);
  }
}

#define SCALESEARCH_KERNEL(name, function) \
  extern "C" XLA_FFI_Error* name(XLA_FFI_CallFrame* frame) { return scalesearch::handle(frame, function); }

// Lanes floats that are computed with at once; loads and stores need no alignment.
template <int Lanes>
struct Vector {
  typedef float type __attribute__((vector_size(Lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

  static type load(const float* from) { return *reinterpret_cast<const type*>(from); }
  static void store(float* to, type value) { *reinterpret_cast<type*>(to) = value; }
};

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// body<Lanes>(first channel, lanes that the block before has covered) until all channels are. Where their count is no
// multiple of the lanes the last block overlaps the one before: what it writes twice is the same.
template <int Lanes = kLanes, class Body>
void for_blocks(int64_t channels, Body&& body) {
  if constexpr (Lanes > 1) {
    if (channels < Lanes) return for_blocks<(Lanes > 4 ? Lanes / 2 : 1)>(channels, body);
  }
  int64_t c = 0;
  for (; c + Lanes <= channels; c += Lanes) body.template operator()<Lanes>(c, 0);
  if (c == channels) return;
  if constexpr (Lanes > 8) {
    constexpr int kHalf = Lanes / 2;
    if (channels - c <= kHalf) return body.template operator()<kHalf>(channels - kHalf, c - channels + kHalf);
  }
  body.template operator()<Lanes>(channels - Lanes, c - channels + Lanes);
}

// A part of `total` as every thread count would cut it: [first, last) of part `i` of `parts`.
struct Range {
  int64_t first, last;
  Range(int64_t total, int64_t parts, int64_t i) : first(total * i / parts), last(total * (i + 1) / parts) {}
};

}  // namespace scalesearch
