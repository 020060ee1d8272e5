/* The program around a compiled model on a Linux board: read inputs, run, time, and say what was seen. Its commands:
 * commands.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "linux.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are read and written as they are in memory, and the files are little-endian"
#endif

enum { ALIGNMENT = 64, SMALLEST_WINDOW = 5, LARGEST_WINDOW = 256, CLOCK_READINGS = 1000, MEMORY_SAMPLES = 2 };

void **inputs, **outputs;
static uint64_t sample_bytes; /* all inputs of one sample */
static uint64_t started_ns;

_Noreturn void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("model: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}

_Noreturn void refuse(const char *why) { fail("%s", why); }

static uint64_t read_clock(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now)) fail("cannot read the clock: %s", strerror(errno));
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t parse_number(const char *name, const char *text) {
  char *end;
  errno = 0;
  uint64_t value = strtoull(text, &end, 10);
  if (errno || *text < '0' || *text > '9' || *end) fail("%s is %s, expected a whole number", name, text);
  return value;
}

void *allocate(uint64_t bytes) {
  void *memory = aligned_alloc(ALIGNMENT, (size_t)((bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT));
  if (!memory) fail("cannot allocate %" PRIu64 " bytes", bytes);
  return memory;
}

static void prepare(void) {
  inputs = allocate(aot_input_count * sizeof *inputs);
  outputs = allocate(aot_output_count * sizeof *outputs);
  for (uint32_t i = 0; i < aot_input_count; i++) {
    inputs[i] = allocate(aot_input_bytes[i]);
    sample_bytes += aot_input_bytes[i];
  }
}

static void run(void) {
  int failed = aot_run((void *const *)inputs, outputs);
  if (failed) fail("kernel call %d failed", failed);
}

FILE *open_inputs(const char *path, uint64_t *count) {
  struct stat about;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &about)) fail("cannot read %s: %s", path, strerror(errno));
  uint64_t size = (uint64_t)about.st_size;
  if (size == 0 || size % sample_bytes)
    fail("%s has %" PRIu64 " bytes, expected a multiple of %" PRIu64 " and at least one", path, size, sample_bytes);
  *count = size / sample_bytes;
  return file;
}

FILE *open_for_writing(const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) fail("cannot write %s: %s", path, strerror(errno));
  return file;
}

void read_sample(FILE *file, const char *path) {
  for (uint32_t i = 0; i < aot_input_count; i++)
    if (fread(inputs[i], 1, aot_input_bytes[i], file) != aot_input_bytes[i]) fail("cannot read %s: it got shorter", path);
}

void write_all(const void *data, uint64_t bytes, FILE *file, const char *path) {
  if (fwrite(data, 1, bytes, file) != bytes) fail("cannot write %s: %s", path, strerror(errno));
}

void close_written(FILE *file, const char *path) {
  if (fclose(file)) fail("cannot write %s: %s", path, strerror(errno));
}

void infer(const char *inputs_path, const char *outputs_path) {
  uint64_t count;
  FILE *source = open_inputs(inputs_path, &count), *sink = open_for_writing(outputs_path);
  while (count--) {
    read_sample(source, inputs_path);
    run();
    for (uint32_t i = 0; i < aot_output_count; i++) write_all(outputs[i], aot_output_bytes[i], sink, outputs_path);
  }
  close_written(sink, outputs_path);
}

void count_instructions(const char *inputs_path, uint64_t inferences) {
  uint64_t count;
  FILE *source = open_inputs(inputs_path, &count);
  read_sample(source, inputs_path);
  while (inferences--) run();
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static const uint8_t *dataset; /* mapped, so that nothing but a copy stands between two timed inferences */
static uint64_t dataset_samples, next_sample;

static void map_dataset(const char *path) {
  FILE *file = open_inputs(path, &dataset_samples);
  void *mapped = mmap(NULL, (size_t)(dataset_samples * sample_bytes), PROT_READ, MAP_PRIVATE, fileno(file), 0);
  if (mapped == MAP_FAILED) fail("cannot map %s: %s", path, strerror(errno));
  dataset = mapped;
}

static void take_next_sample(void) {
  const uint8_t *from = dataset + next_sample * sample_bytes;
  for (uint32_t i = 0; i < aot_input_count; i++) {
    memcpy(inputs[i], from, aot_input_bytes[i]);
    from += aot_input_bytes[i];
  }
  next_sample = (next_sample + 1) % dataset_samples;
}

static uint64_t timed_inference(void) {
  take_next_sample();
  uint64_t start = now_ns();
  run();
  return now_ns() - start;
}

static int compare_numbers(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

static uint64_t recent[2 * LARGEST_WINDOW]; /* ring of the last durations of the warm-up */

/* Median of the `window` durations that end before inference `end`. */
static uint64_t median_before(uint64_t end, uint64_t window) {
  uint64_t sorted[LARGEST_WINDOW];
  for (uint64_t i = 0; i < window; i++) sorted[i] = recent[(end - window + i) % (2 * LARGEST_WINDOW)];
  qsort(sorted, (size_t)window, sizeof *sorted, compare_numbers);
  return sorted[window / 2];
}

struct warmup {
  uint64_t count, duration_ns, first_ns, median_ns;
  bool stable;
};

/* At least `min_count` inferences and `min_ns`; then until the medians of two successive windows differ by less than 2 %, or
 * `max_ns` have passed. A window is half of what ran so far, within bounds. */
static struct warmup warm_up(uint64_t min_count, uint64_t min_ns, uint64_t max_ns) {
  struct warmup done = {0};
  uint64_t begin = now_ns(), window = 0, check_at = 0;
  do {
    recent[done.count % (2 * LARGEST_WINDOW)] = timed_inference();
    if (done.count++ == 0) done.first_ns = recent[0];
    done.duration_ns = now_ns() - begin;
    if (!window && done.count >= min_count && done.count >= 2 * SMALLEST_WINDOW && done.duration_ns >= min_ns) {
      window = done.count / 2 < LARGEST_WINDOW ? done.count / 2 : LARGEST_WINDOW;
      check_at = done.count;
    }
    if (window && done.count == check_at) {
      uint64_t earlier = median_before(done.count - window, window), later = median_before(done.count, window);
      done.stable = (later > earlier ? later - earlier : earlier - later) * 50 < earlier;
      check_at += window;
    }
  } while (!done.stable && done.duration_ns < max_ns);
  if (!window) window = done.count < LARGEST_WINDOW ? done.count : LARGEST_WINDOW;
  done.median_ns = median_before(done.count, window);
  return done;
}

/* The smallest step the clock was seen to make. */
static uint64_t clock_step_ns(void) {
  uint64_t smallest = UINT64_MAX, last = now_ns();
  for (int i = 0; i < CLOCK_READINGS; i++) {
    uint64_t now = now_ns();
    if (now != last && now - last < smallest) smallest = now - last;
    last = now;
  }
  return smallest == UINT64_MAX ? 0 : smallest;
}

void time_inferences(const char *inputs_path, const char *samples_path, struct limits limits) {
  map_dataset(inputs_path);
  FILE *sink = open_for_writing(samples_path);
  uint64_t *samples = allocate(limits.max_count * sizeof *samples), count = 0, inferences = 0;
  memset(samples, 1, (size_t)(limits.max_count * sizeof *samples)); /* so that no page is new while measuring */
  uint64_t step_ns = clock_step_ns(), load_ns = now_ns() - started_ns;
  struct warmup warmup = warm_up(limits.warmup_min_count, limits.warmup_min_ns, limits.warmup_max_ns);

  uint64_t stride = choose_stride(limits, warmup.median_ns);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  uint64_t cpu_begin = read_clock(CLOCK_PROCESS_CPUTIME_ID), begin = now_ns(), elapsed = 0;
  while (count < limits.max_count && elapsed < limits.max_ns && (count < limits.min_count || elapsed < limits.min_ns)) {
    for (uint64_t i = 1; i < stride; i++, inferences++) {
      take_next_sample();
      run();
    }
    samples[count++] = timed_inference();
    inferences++;
    elapsed = now_ns() - begin;
  }
  uint64_t cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
  getrusage(RUSAGE_SELF, &after);
  write_all(samples, count * sizeof *samples, sink, samples_path);
  close_written(sink, samples_path);
  printf("{\"load_ns\":%" PRIu64 ",\"first_inference_ns\":%" PRIu64 ",\"clock_resolution_ns\":%" PRIu64
         ",\"warmup\":{\"count\":%" PRIu64 ",\"duration_ns\":%" PRIu64 ",\"stable\":%s},\"inferences\":%" PRIu64
         ",\"stride\":%" PRIu64 ",\"duration_ns\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 ",\"preemptions\":%ld}\n",
         load_ns, warmup.first_ns, step_ns, warmup.count, warmup.duration_ns, warmup.stable ? "true" : "false", inferences,
         stride, elapsed, cpu_ns, after.ru_nivcsw - before.ru_nivcsw);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

struct mapping {
  uint64_t start, end, offset, inode;
};

static bool next_mapping(FILE *maps, struct mapping *found) {
  char line[4096];
  return fgets(line, sizeof line, maps) &&
         sscanf(line, "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %*s %" SCNu64, &found->start, &found->end, &found->offset,
                &found->inode) == 4;
}

/* Whether a user-mode emulator runs this program: it hides itself behind /proc/self, not behind /proc/thread-self. */
static bool emulated(void) {
  char self[4096] = "", thread[4096] = "";
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || readlink("/proc/thread-self/exe", thread, sizeof thread - 1) < 0)
    return false;
  return strcmp(self, thread) != 0;
}

/* What the emulator adds to this program's addresses, from where the executable's own code is mapped in both views. */
static bool find_guest_base(uint64_t *base) {
  struct mapping own = {0}, host;
  uint64_t here = (uint64_t)(uintptr_t)&prepare;
  FILE *guest_maps = fopen("/proc/self/maps", "r"), *host_maps = fopen("/proc/thread-self/maps", "r");
  bool found = false;
  while (guest_maps && !found && next_mapping(guest_maps, &own)) found = own.start <= here && here < own.end && own.inode;
  if (!found || !host_maps) return false;
  for (found = false; !found && next_mapping(host_maps, &host);)
    found = host.inode == own.inode && host.offset <= own.offset && own.offset < host.offset + (host.end - host.start);
  *base = host.start + (own.offset - host.offset) - own.start;
  return found;
}

/* Resident bytes of this program's own mappings, page by page; nothing is unmapped before, so it is also the peak. Whoever
 * starts the emulator must have switched its transparent huge pages off: one of them counts as touched as a whole. */
static const char *count_guest_pages(uint64_t *bytes) {
  uint64_t base, entry, page = (uint64_t)sysconf(_SC_PAGESIZE);
  struct mapping mapping;
  if (!find_guest_base(&base)) return "the emulator does not show where it keeps the program";
  FILE *maps = fopen("/proc/self/maps", "r");
  int pagemap = open("/proc/self/pagemap", O_RDONLY);
  if (!maps || pagemap < 0) return "the host's kernel does not show which pages are resident";
  for (*bytes = 0; next_mapping(maps, &mapping);)
    for (uint64_t at = mapping.start + base; at < mapping.end + base; at += page) {
      if (pread(pagemap, &entry, sizeof entry, (off_t)(at / page * sizeof entry)) != sizeof entry) break;
      if (entry >> 63) *bytes += page;
    }
  return NULL;
}

static const char *read_high_water_mark(uint64_t *bytes) {
  char line[256];
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %" SCNu64, bytes) == 1) {
      *bytes *= 1024;
      return NULL;
    }
  return "/proc/self/status has no VmHWM";
}

void measure_memory(const char *inputs_path) {
  bool guest = emulated();
  uint64_t count, bytes = 0;
  FILE *source = open_inputs(inputs_path, &count);
  setvbuf(source, NULL, _IONBF, 0);
  for (uint64_t i = 0; i < count && i < MEMORY_SAMPLES; i++) {
    read_sample(source, inputs_path);
    run();
  }
  const char *trouble = guest ? count_guest_pages(&bytes) : read_high_water_mark(&bytes);
  if (trouble)
    printf("{\"peak_bytes\":null,\"source\":\"%s\"}\n", trouble);
  else
    printf("{\"peak_bytes\":%" PRIu64 ",\"source\":\"%s\"}\n", bytes, guest ? "guest pages" : "VmHWM");
}

#ifdef VECTOR_BYTES /* a target whose kernels need longer vectors than every RISC-V CPU with vectors has */
static void check_vectors(void) {
  uintptr_t bytes;
  __asm__("csrr %0, 0xc22 # vlenb" : "=r"(bytes));
  if (bytes < VECTOR_BYTES) fail("vectors of this CPU have %d bytes, expected %d or more", (int)bytes, VECTOR_BYTES);
}
#else
static void check_vectors(void) {}
#endif

int main(int argc, char **argv) {
  started_ns = now_ns();
  check_vectors();
  prepare();
  carry_out(argc, argv);
  return 0;
}
