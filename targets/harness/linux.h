/* What the parts of the program for Linux boards share; linux.c says what the program does. */
#pragma once
#include <stdint.h>
#include <stdio.h>

#include "aot.h"

extern void **inputs, **outputs; /* pointers to the tensors of the current sample */

_Noreturn void fail(const char *format, ...);
uint64_t now_ns(void);
void *allocate(uint64_t bytes);

/* Opens the inputs and counts the samples in them: at least one, all whole. */
FILE *open_inputs(const char *path, uint64_t *count);
void read_sample(FILE *file, const char *path);

FILE *open_for_writing(const char *path);
void write_all(const void *data, uint64_t bytes, FILE *file, const char *path);
void close_written(FILE *file, const char *path);
