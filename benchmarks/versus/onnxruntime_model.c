/* ONNX Runtime in the place of compiled kernels: what `aot.h` declares, by a session of its C API. The harness of the boards
 * is linked around it as around any model, so that both sides are timed and counted by the same loop. One thread, sequential
 * execution, all graph optimisations; input and output tensors are made once, over the harness' own buffers.
 *
 * `tensors.h` is generated for each model: LIBRARY, MODEL, and the tensors with names, element types, shapes and sizes.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "aot.h"
#include "tensors.h"

/* The table of functions that OrtGetApiBase()->GetApi() returns; it only ever grows at its end (onnxruntime_c_api.h). */
enum {
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  RUN = 9,
  CREATE_SESSION_OPTIONS = 10,
  SET_SESSION_EXECUTION_MODE = 13,
  SET_SESSION_GRAPH_OPTIMIZATION_LEVEL = 23,
  SET_INTRA_OP_NUM_THREADS = 24,
  SET_INTER_OP_NUM_THREADS = 25,
  CREATE_TENSOR_WITH_DATA = 49,
  CREATE_CPU_MEMORY_INFO = 69,
};
enum { API_VERSION = 1, LOG_ERRORS = 3, SEQUENTIAL = 0, ALL_OPTIMISATIONS = 99, DEVICE_ALLOCATOR = 0, DEFAULT_MEMORY = 0 };

struct api_base {
  void *const *(*get_api)(uint32_t version);
  const char *(*version)(void);
};

#define INPUTS (sizeof input_tensors / sizeof *input_tensors)
#define OUTPUTS (sizeof output_tensors / sizeof *output_tensors)

const uint32_t aot_input_count = INPUTS, aot_output_count = OUTPUTS, aot_call_count = 1;
const uint64_t aot_input_bytes[] = INPUT_BYTES, aot_output_bytes[] = OUTPUT_BYTES;

static void *const *api;
static void *session, *memory, *input_values[INPUTS], *output_values[OUTPUTS], *output_data[OUTPUTS];
static const char *input_names[INPUTS], *output_names[OUTPUTS];

static void check(void *status) {
  if (!status) return;
  fprintf(stderr, "onnxruntime: %s\n", ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
  exit(2);
}

static void *tensor_over(void *data, const struct tensor *about) {
  void *value;
  check(((void *(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))api[CREATE_TENSOR_WITH_DATA])(
      memory, data, about->bytes, about->shape, about->rank, about->element_type, &value));
  return value;
}

static void start(void *const *inputs) {
  void *library = dlopen(LIBRARY, RTLD_NOW), *environment, *options;
  const struct api_base *(*get_base)(void) = library ? (const struct api_base *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
  if (!get_base) {
    fprintf(stderr, "onnxruntime: %s\n", dlerror());
    exit(2);
  }
  api = get_base()->get_api(API_VERSION);
  check(((void *(*)(int, const char *, void **))api[CREATE_ENV])(LOG_ERRORS, "benchmark", &environment));
  check(((void *(*)(void **))api[CREATE_SESSION_OPTIONS])(&options));
  const int settings[][2] = {{SET_SESSION_EXECUTION_MODE, SEQUENTIAL},
                             {SET_SESSION_GRAPH_OPTIMIZATION_LEVEL, ALL_OPTIMISATIONS},
                             {SET_INTRA_OP_NUM_THREADS, 1},
                             {SET_INTER_OP_NUM_THREADS, 1}};
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    check(((void *(*)(void *, int))api[settings[i][0]])(options, settings[i][1]));
  check(((void *(*)(void *, const char *, void *, void **))api[CREATE_SESSION])(environment, MODEL, options, &session));
  check(((void *(*)(int, int, void **))api[CREATE_CPU_MEMORY_INFO])(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &memory));
  for (size_t i = 0; i < INPUTS; i++) {
    input_names[i] = input_tensors[i].name;
    input_values[i] = tensor_over(inputs[i], &input_tensors[i]);
  }
  for (size_t i = 0; i < OUTPUTS; i++) {
    output_names[i] = output_tensors[i].name;
    output_data[i] = aligned_alloc(64, (output_tensors[i].bytes + 63) / 64 * 64);
    output_values[i] = tensor_over(output_data[i], &output_tensors[i]);
  }
}

int aot_run(void *const *inputs, void **outputs) {
  if (!session) start(inputs);
  check(((void *(*)(void *, void *, const char *const *, void *const *, size_t, const char *const *, size_t, void **))api[RUN])(
      session, NULL, input_names, input_values, INPUTS, output_names, OUTPUTS, output_values));
  for (size_t i = 0; i < OUTPUTS; i++) outputs[i] = output_data[i];
  return 0;
}

/* ONNX Runtime as the one kernel that it is here. */
int aot_profile(void *const *inputs, void **outputs, void (*mark)(uint32_t call)) {
  mark(0);
  mark(0);
  int failed = aot_run(inputs, outputs);
  mark(1);
  return failed;
}
