/* The program around a compiled model on a microcontroller: read inputs, run, time, and say what was seen. Its commands:
 * commands.h.
 *
 * Files and arguments come by semihosting, from the debugger or emulator; arguments hold no blanks. There is no heap, and no C
 * library but for what kernels call.
 *
 * Set by whoever links: INPUT_COUNT, OUTPUT_COUNT, CALL_COUNT, INPUTS_BYTES (of one sample, each input rounded up to 16 bytes).
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "aot.h"
#include "board.h"
#include "commands.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_SEEK = 10, SYS_FLEN = 12, SYS_GET_CMDLINE = 21 };
enum { SYS_EXIT_EXTENDED = 32, APPLICATION_EXIT = 0x20026 };
enum { READ_BINARY = 1, WRITE = 4, WRITE_BINARY = 5, APPEND = 8 }; /* of ":tt", WRITE is standard output, APPEND error */
enum { ALIGNMENT = 16, WINDOW = 16, MEMORY_SAMPLES = 2, MOST_WORDS = 16, FAILED = 2 };
enum { PAINT = 0xA5, GUARD = 16, UNPAINTED = 256 }; /* bytes at the stack's two ends */

static uint8_t inputs_memory[INPUTS_BYTES] __attribute__((aligned(ALIGNMENT)));
static void *inputs[INPUT_COUNT], *outputs[OUTPUT_COUNT];
static char command_line[1024], *words[MOST_WORDS];

/* --- files and text --------------------------------------------------------------------------------------------- */

typedef struct {
  intptr_t handle;
  const char *name;
} file;

static file open_file(const char *name, uintptr_t mode) {
  uintptr_t block[] = {(uintptr_t)name, mode, strlen(name)};
  return (file){(intptr_t)semihost(SYS_OPEN, block), name};
}

static void write_text(file to, const char *text) {
  uintptr_t block[] = {(uintptr_t)to.handle, (uintptr_t)text, strlen(text)};
  semihost(SYS_WRITE, block);
}

static _Noreturn void leave(uintptr_t status) {
  uintptr_t block[] = {APPLICATION_EXIT, status};
  for (;;) semihost(SYS_EXIT_EXTENDED, block);
}

static _Noreturn void fail(const char *what, const char *name, const char *why) {
  file error = open_file(":tt", APPEND);
  write_text(error, "model: ");
  write_text(error, what);
  write_text(error, name);
  write_text(error, why);
  write_text(error, "\n");
  leave(FAILED);
}

_Noreturn void refuse(const char *why) { fail(why, "", ""); }

static char *format_number(uint64_t value, unsigned base) {
  static char text[24];
  char *at = text + sizeof text - 1;
  do *--at = "0123456789abcdef"[value % base];
  while (value /= base);
  return at;
}

uint64_t parse_number(const char *name, const char *text) {
  uint64_t value = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9'; at++) {
    if (value > (UINT64_MAX - 9) / 10) break;
    value = value * 10 + (uint64_t)(*at - '0');
  }
  if (*at || at == text) fail(name, " is not a whole number: ", text);
  return value;
}

static void print_field(file to, const char *before, uint64_t value) {
  write_text(to, before);
  write_text(to, format_number(value, 10));
}

static file open_for_writing(const char *name) {
  file opened = open_file(name, WRITE_BINARY);
  if (opened.handle < 0) fail("cannot write ", name, "");
  return opened;
}

static void write_all(file to, const void *data, size_t bytes) {
  uintptr_t block[] = {(uintptr_t)to.handle, (uintptr_t)data, bytes};
  if (semihost(SYS_WRITE, block)) fail("cannot write ", to.name, "");
}

static void close_written(file written) {
  uintptr_t block[] = {(uintptr_t)written.handle};
  if (semihost(SYS_CLOSE, block)) fail("cannot write ", written.name, "");
}

/* --- the model -------------------------------------------------------------------------------------------------- */

static uintptr_t sample_bytes; /* all inputs of one sample, as they are in the file */

static void prepare_inputs(void) {
  uint8_t *at = inputs_memory;
  for (uint32_t i = 0; i < INPUT_COUNT; i++) {
    inputs[i] = at;
    at += (aot_input_bytes[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    sample_bytes += (uintptr_t)aot_input_bytes[i];
  }
}

/* Opens the inputs and counts the samples in them: at least one, all whole. */
static file open_inputs(const char *name, uintptr_t *count) {
  file opened = open_file(name, READ_BINARY);
  uintptr_t block[] = {(uintptr_t)opened.handle};
  if (opened.handle < 0) fail("cannot read ", name, "");
  uintptr_t size = semihost(SYS_FLEN, block);
  if (size == 0 || size == UINTPTR_MAX || size % sample_bytes)
    fail(name, " does not hold whole samples of this size in bytes: ", format_number(sample_bytes, 10));
  *count = size / sample_bytes;
  return opened;
}

static void read_sample(file from) {
  for (uint32_t i = 0; i < INPUT_COUNT; i++) {
    uintptr_t block[] = {(uintptr_t)from.handle, (uintptr_t)inputs[i], (uintptr_t)aot_input_bytes[i]};
    if (semihost(SYS_READ, block)) fail("cannot read ", from.name, ": it got shorter");
  }
}

static void check_stack(void) {
  for (const uint32_t *at = (const uint32_t *)stack_bottom; at < (const uint32_t *)(stack_bottom + GUARD); at++)
    if (*at != PAINT * 0x01010101u) fail("stack overflow: its size in bytes is ", format_number((uintptr_t)(stack_top - stack_bottom), 10), "");
}

static void run(void) {
  int failed = aot_run((void *const *)inputs, outputs);
  check_stack();
  if (failed) fail("kernel call failed: ", format_number((uint64_t)failed, 10), "");
}

void infer(const char *inputs_name, const char *outputs_name) {
  uintptr_t count;
  file source = open_inputs(inputs_name, &count), sink = open_for_writing(outputs_name);
  while (count--) {
    read_sample(source);
    run();
    for (uint32_t i = 0; i < OUTPUT_COUNT; i++) write_all(sink, outputs[i], (size_t)aot_output_bytes[i]);
  }
  close_written(sink);
}

void count_instructions(const char *inputs_name, uint64_t inferences) {
  uintptr_t count;
  file source = open_inputs(inputs_name, &count);
  read_sample(source);
  while (inferences--) run();
}

void measure_memory(const char *inputs_name) {
  uintptr_t count;
  file source = open_inputs(inputs_name, &count), answer = open_file(":tt", WRITE);
  for (uintptr_t i = 0; i < count && i < MEMORY_SAMPLES; i++) {
    read_sample(source);
    run();
  }
  const uint8_t *deepest = stack_bottom;
  while (deepest < stack_top && *deepest == PAINT) deepest++;
  uint64_t stack = (uint64_t)(stack_top - deepest), others = (uint64_t)(ram_end - stack_top);
  print_field(answer, "{\"peak_bytes\":", others + stack);
  print_field(answer, ",\"stack_bytes\":", stack);
  write_text(answer, ",\"source\":\"static memory and painted stack\"}\n");
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static file dataset;
static uintptr_t dataset_samples, next_sample;

static uint64_t ticks_to_ns(uint64_t ticks) {
  return ticks / TIMER_HZ * 1000000000u + ticks % TIMER_HZ * 1000000000u / TIMER_HZ;
}

static uint64_t now_ns(void) { return ticks_to_ns(read_timer()); }

static void take_next_sample(void) {
  uintptr_t block[] = {(uintptr_t)dataset.handle, next_sample * sample_bytes};
  if (semihost(SYS_SEEK, block)) fail("cannot read ", dataset.name, "");
  read_sample(dataset);
  next_sample = (next_sample + 1) % dataset_samples;
}

static uint64_t timed_inference(void) {
  take_next_sample();
  uint64_t start_ns = now_ns();
  run();
  return now_ns() - start_ns;
}

static uint64_t recent[2 * WINDOW]; /* ring of the last durations of the warm-up */

/* Median of the `window` durations that end before inference `end`. */
static uint64_t median_before(uint64_t end, uint32_t window) {
  uint64_t sorted[WINDOW];
  for (uint32_t i = 0; i < window; i++) {
    uint64_t value = recent[(end - window + i) % (2 * WINDOW)];
    uint32_t at = i;
    for (; at && sorted[at - 1] > value; at--) sorted[at] = sorted[at - 1];
    sorted[at] = value;
  }
  return sorted[window / 2];
}

/* At least `min_count` inferences and `min_ns`; then until the medians of two successive windows differ by less than 2 %, or
 * `max_ns` have passed. */
static uint64_t warm_up(uint64_t min_count, uint64_t min_ns, uint64_t max_ns, file answer) {
  uint64_t begin = now_ns(), count = 0, elapsed = 0, check_at = 0, first = 0;
  bool stable = false;
  do {
    uint64_t took = recent[count % (2 * WINDOW)] = timed_inference();
    if (count++ == 0) first = took;
    elapsed = now_ns() - begin;
    if (!check_at && count >= min_count && count >= 2 * WINDOW && elapsed >= min_ns) check_at = count;
    if (count == check_at) {
      uint64_t earlier = median_before(count - WINDOW, WINDOW), later = median_before(count, WINDOW);
      stable = (later > earlier ? later - earlier : earlier - later) * 50 < earlier;
      check_at += WINDOW;
    }
  } while (!stable && elapsed < max_ns);
  print_field(answer, ",\"first_inference_ns\":", first);
  print_field(answer, ",\"warmup\":{\"count\":", count);
  print_field(answer, ",\"duration_ns\":", elapsed);
  write_text(answer, stable ? ",\"stable\":true}" : ",\"stable\":false}");
  return median_before(count, count < WINDOW ? (uint32_t)count : WINDOW);
}

void time_inferences(const char *inputs_name, const char *samples_name, struct limits limits) {
  start_timer();
  dataset = open_inputs(inputs_name, &dataset_samples);
  file sink = open_for_writing(samples_name), answer = open_file(":tt", WRITE);
  print_field(answer, "{\"load_ns\":", now_ns());
  print_field(answer, ",\"clock_resolution_ns\":", (1000000000u + TIMER_HZ - 1) / TIMER_HZ);
  uint64_t median_ns = warm_up(limits.warmup_min_count, limits.warmup_min_ns, limits.warmup_max_ns, answer);

  uint64_t stride = choose_stride(limits, median_ns), count = 0, inferences = 0, elapsed = 0, begin = now_ns();
  while (count < limits.max_count && elapsed < limits.max_ns && (count < limits.min_count || elapsed < limits.min_ns)) {
    for (uint64_t i = 1; i < stride; i++, inferences++) {
      take_next_sample();
      run();
    }
    uint64_t sample_ns = timed_inference();
    write_all(sink, &sample_ns, sizeof sample_ns);
    count++, inferences++;
    elapsed = now_ns() - begin;
  }
  close_written(sink);
  print_field(answer, ",\"inferences\":", inferences);
  print_field(answer, ",\"stride\":", stride);
  print_field(answer, ",\"duration_ns\":", elapsed);
  print_field(answer, ",\"cpu_ns\":", elapsed); /* nothing else runs on this CPU */
  write_text(answer, ",\"preemptions\":0}\n");
}

/* --- profile ---------------------------------------------------------------------------------------------------- */

static uint64_t *next_reading; /* NULL where the emulator counts and only has to see mark() entered */

static __attribute__((noinline, noclone)) void mark(uint32_t call) {
  (void)call;
  if (next_reading) *next_reading++ = read_timer();
}

void profile(const char *inputs_name, const char *readings_name, uint64_t repetitions, const char *counter) {
  uint64_t readings[CALL_COUNT + 2]; /* on the stack, for other modes need no memory for it */
  bool timed = !strcmp(counter, "ns");
  if (!timed && strcmp(counter, "none") && strcmp(counter, "instructions"))
    fail("COUNTER is ", counter, ", expected ns, instructions or none");
  if (!strcmp(counter, "instructions")) repetitions = 0; /* only an emulator or debugger could tell */
  uintptr_t count;
  file source = open_inputs(inputs_name, &count), sink = open_for_writing(readings_name);
  read_sample(source);
  if (timed) start_timer();
  while (repetitions--) {
    next_reading = timed ? readings : NULL;
    int failed = aot_profile((void *const *)inputs, outputs, mark);
    check_stack();
    if (failed) fail("kernel call failed: ", format_number((uint64_t)failed, 10), "");
    for (uint32_t i = 0; i < CALL_COUNT + 2; i++) readings[i] = timed ? ticks_to_ns(readings[i]) : 0;
    write_all(sink, readings, sizeof readings);
  }
  close_written(sink);
  if (!strcmp(counter, "none")) return;
  file answer = open_file(":tt", WRITE);
  print_field(answer, "{\"mark\":", (uintptr_t)&mark & ~(uintptr_t)1); /* in Thumb code bit 0 is set */
  write_text(answer, timed ? ",\"trouble\":\"\"}\n" : ",\"trouble\":\"this board has no such counter\"}\n");
}

/* ---------------------------------------------------------------------------------------------------------------- */

_Noreturn void report_trap(uintptr_t sp, uintptr_t place, uintptr_t cause) {
  if (sp < (uintptr_t)stack_bottom + GUARD)
    fail("stack overflow: its size in bytes is ", format_number((uintptr_t)(stack_top - stack_bottom), 10), "");
  static char place_text[24];
  strcpy(place_text, format_number(place, 16));
  fail(place_text, " is the address of an instruction that trapped; the cause in hexadecimal is ", format_number(cause, 16));
}

static int split_command_line(void) {
  uintptr_t block[] = {(uintptr_t)command_line, sizeof command_line};
  int count = 0;
  if (semihost(SYS_GET_CMDLINE, block)) fail("there is no command line, or it is too long", "", "");
  for (char *at = command_line; *at;) {
    while (*at == ' ') *at++ = 0;
    if (*at && count < MOST_WORDS) words[count++] = at;
    while (*at && *at != ' ') at++;
  }
  return count;
}

static __attribute__((noinline)) void begin(void) {
  int count = split_command_line();
  prepare_inputs();
  carry_out(count, words);
}

_Noreturn void run_program(void) {
  uint8_t *here = __builtin_frame_address(0);
  memset(stack_bottom, PAINT, (size_t)(here - UNPAINTED - stack_bottom));
  begin();
  leave(0);
}
