/* Where an inference spends its time: a counter is read before the first kernel, twice, and after each one.
 *
 * COUNTER is ns, instructions, or none where the emulator counts and only has to see mark() entered. READINGS receives raw
 * uint64: for each repetition one for each mark. The answer is one JSON line with the address of mark() and, where the counter
 * cannot be read, why not; none with COUNTER none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "commands.h"
#include "linux.h"

enum { WARMUP_INFERENCES = 3 };

static uint64_t (*read_counter)(void), *next_reading;
static int instructions;

static uint64_t read_nothing(void) { return 0; }

static uint64_t read_instructions(void) {
  uint64_t count = 0;
  if (read(instructions, &count, sizeof count) != sizeof count) fail("cannot read the instruction counter");
  return count;
}

static __attribute__((noinline, noclone)) void mark(uint32_t call) {
  (void)call;
  *next_reading++ = read_counter();
}

/* This thread's instructions in user mode (perf_event_open(2)). */
static const char *open_instruction_counter(void) {
  struct perf_event_attr wanted = {
      .type = PERF_TYPE_HARDWARE,
      .size = sizeof wanted,
      .config = PERF_COUNT_HW_INSTRUCTIONS,
      .exclude_kernel = 1,
      .exclude_hv = 1,
  };
  instructions = (int)syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0);
  return instructions < 0 ? strerror(errno) : "";
}

static void run_marked(uint64_t *readings) {
  next_reading = readings;
  int failed = aot_profile((void *const *)inputs, outputs, mark);
  if (failed) fail("kernel call %d failed", failed);
}

void profile(const char *inputs_path, const char *readings_path, uint64_t repetitions, const char *counter) {
  const char *trouble = "";
  uint64_t samples, marks = (uint64_t)aot_call_count + 2;
  read_counter = now_ns;
  if (!strcmp(counter, "instructions")) {
    trouble = open_instruction_counter();
    read_counter = *trouble ? read_nothing : read_instructions;
  } else if (!strcmp(counter, "none")) {
    read_counter = read_nothing;
  } else if (strcmp(counter, "ns")) {
    fail("COUNTER is %s, expected ns, instructions or none", counter);
  }
  FILE *source = open_inputs(inputs_path, &samples), *sink = open_for_writing(readings_path);
  uint64_t *readings = allocate(marks * sizeof *readings);
  read_sample(source, inputs_path);
  if (repetitions && read_counter != read_nothing)
    for (int i = 0; i < WARMUP_INFERENCES; i++) run_marked(readings);
  while (repetitions--) {
    run_marked(readings);
    write_all(readings, marks * sizeof *readings, sink, readings_path);
  }
  close_written(sink, readings_path);
  uintptr_t address = (uintptr_t)&mark & ~(uintptr_t)1; /* of Arm's two instruction sets bit 0 tells which */
  if (strcmp(counter, "none")) printf("{\"mark\":%" PRIuPTR ",\"trouble\":\"%s\"}\n", address, trouble);
}
