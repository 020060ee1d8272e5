/* The commands of the program around a compiled model, the same on Linux boards (linux.c) and on microcontrollers (firmware.c).
 *
 *   model infer INPUTS OUTPUTS      run every sample, write its outputs
 *   model time INPUTS SAMPLES WARMUP_MIN_COUNT WARMUP_MIN_NS WARMUP_MAX_NS MIN_COUNT MIN_NS MAX_NS MAX_COUNT
 *                                   warm up, then time inferences; samples as raw uint64 nanoseconds, one JSON line
 *   model memory INPUTS             run two samples; one JSON line with the memory in use, on a microcontroller with the depth
 *                                   of the stack
 *   model count INPUTS N            run the first sample N times and print nothing, for an emulator that counts instructions
 *   model profile INPUTS READINGS N COUNTER
 *                                   run the first sample N times and read a counter before the first kernel, twice, and after
 *                                   each one
 *
 * INPUTS and OUTPUTS are raw little-endian: the samples one after the other, each with all its tensors concatenated.
 * On any error: one line on standard error and exit status 2.
 */
#pragma once
#include <stdint.h>

struct limits {
  uint64_t warmup_min_count, warmup_min_ns, warmup_max_ns, min_count, min_ns, max_ns, max_count;
};

/* Carries out the command that is words[1]; inputs and outputs of the model are in place. */
void carry_out(int count, char **words);

/* How many inferences there are for each that is timed: more than one where over three quarters of MAX_COUNT would fit into
 * MIN_NS. */
uint64_t choose_stride(struct limits limits, uint64_t median_ns);

/* What linux.c and firmware.c each do in their own way. */
void infer(const char *inputs_name, const char *outputs_name);
void time_inferences(const char *inputs_name, const char *samples_name, struct limits limits);
void measure_memory(const char *inputs_name);
void count_instructions(const char *inputs_name, uint64_t inferences);
void profile(const char *inputs_name, const char *readings_name, uint64_t repetitions, const char *counter);
uint64_t parse_number(const char *name, const char *text);
_Noreturn void refuse(const char *why);
