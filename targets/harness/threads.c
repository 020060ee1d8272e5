/* The threads that share a kernel's loops: made once, with the first loop, and ended with the program.
 *
 * Kernels call TVMBackendParallelLaunch (TVM, include/tvm/runtime/c_backend_api.h), which every thread but the caller waits for:
 * spinning for some microseconds, because the next loop is mostly near, and then asleep. Nothing is allocated after the start.
 * Each thread has a CPU of its own as far as there are enough.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "linux.h"

enum { MOST_THREADS = 64, SPINS = 20000, STACK_BYTES = 1 << 20 };

typedef struct {
  void *barrier; /* none: no kernel of ours waits within a loop */
  int32_t tasks;
} environment;

typedef int (*loop)(int task, environment *about, void *data);

extern const uint32_t aot_thread_count;
_Thread_local uint32_t aot_thread;

static pthread_t threads[MOST_THREADS];
static uint32_t started;
static unsigned spins;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned sleepers;         /* guarded by the mutex */
static atomic_uint round_number;  /* changes, under the mutex, when there is something to do */
static atomic_uint unfinished;    /* threads that still work on it */
static atomic_int failed;
static bool ending;
static loop current;
static void *current_data;
static environment about;

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#elif defined(__riscv)
  __asm__ volatile(".insn i 0x0F, 0, x0, x0, 0x010"); /* pause, a hint of Zihintpause */
#endif
}

/* Waits for a round other than `known`. */
static unsigned await_round(unsigned known) {
  unsigned now = atomic_load_explicit(&round_number, memory_order_acquire);
  for (unsigned i = 0; now == known && i < spins; i++) {
    relax();
    now = atomic_load_explicit(&round_number, memory_order_acquire);
  }
  if (now != known) return now;
  pthread_mutex_lock(&mutex);
  sleepers++;
  while ((now = atomic_load_explicit(&round_number, memory_order_relaxed)) == known) pthread_cond_wait(&changed, &mutex);
  sleepers--;
  pthread_mutex_unlock(&mutex);
  return now;
}

static void begin_round(void) {
  pthread_mutex_lock(&mutex);
  atomic_fetch_add_explicit(&round_number, 1, memory_order_release);
  if (sleepers) pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static void *work(void *number) {
  unsigned known = 0;
  aot_thread = (uint32_t)(uintptr_t)number;
  for (;;) {
    known = await_round(known);
    if (ending) return NULL;
    if (current((int)aot_thread, &about, current_data)) atomic_store_explicit(&failed, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&unfinished, 1, memory_order_release);
  }
}

/* The CPUs this process may use, or none where they are fewer than threads. */
static unsigned own_cpus(unsigned cpus[MOST_THREADS]) {
  cpu_set_t allowed;
  unsigned count = 0;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return 0;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < aot_thread_count; cpu++)
    if (CPU_ISSET(cpu, &allowed)) cpus[count++] = cpu;
  return count == aot_thread_count ? count : 0;
}

static void keep_to(pthread_t thread, unsigned cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  pthread_setaffinity_np(thread, sizeof one, &one); /* a wish: without it the threads only move about */
}

static void start(void) {
  unsigned cpus[MOST_THREADS], enough = own_cpus(cpus);
  pthread_attr_t attributes;
  spins = enough ? SPINS : 0; /* who waits must not keep a CPU from who works */
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  about.tasks = (int32_t)aot_thread_count;
  if (enough) keep_to(pthread_self(), cpus[0]);
  for (started = 1; started < aot_thread_count; started++) {
    int trouble = pthread_create(&threads[started], &attributes, work, (void *)(uintptr_t)started);
    if (trouble) fail("cannot start thread %u of %u (error %d)", started + 1, aot_thread_count, trouble);
    if (enough) keep_to(threads[started], cpus[started]);
  }
  pthread_attr_destroy(&attributes);
}

static int launch(loop body, void *data, int tasks) {
  (void)tasks; /* 0: as many as there are */
  if (!started) start();
  current = body;
  current_data = data;
  atomic_store_explicit(&failed, 0, memory_order_relaxed);
  atomic_store_explicit(&unfinished, aot_thread_count - 1, memory_order_relaxed);
  begin_round();
  int trouble = body(0, &about, data);
  for (unsigned i = 0; atomic_load_explicit(&unfinished, memory_order_acquire); i++) {
    if (i < spins)
      relax();
    else
      sched_yield();
  }
  return trouble || atomic_load_explicit(&failed, memory_order_relaxed);
}

int (*__TVMBackendParallelLaunch)(loop, void *, int) = launch;

static __attribute__((destructor)) void end(void) {
  if (!started || aot_thread) return; /* a thread that fails ends the program without waiting for the others */
  ending = true;
  begin_round();
  for (uint32_t i = 1; i < started; i++) pthread_join(threads[i], NULL);
}
