/* What the C around a model's kernels gives, and the program around it takes. */
#pragma once
#include <stdint.h>
extern const uint32_t aot_input_count, aot_output_count;
extern const uint64_t aot_input_bytes[], aot_output_bytes[];
extern const uint32_t aot_call_count;
/* 0, or the 1-based number of the kernel call that failed. outputs[i] receives a pointer to bytes that stay as they are until
 * the next run: into the arena, or to an input or a constant that is an output as well. */
int aot_run(void *const *inputs, void **outputs);
/* The same, calling mark(0) twice before the first kernel and mark(n) after the n-th: what passes between the first two marks
 * is what marking takes. */
int aot_profile(void *const *inputs, void **outputs, void (*mark)(uint32_t call));
