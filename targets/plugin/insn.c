/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Plugin for QEMU's user-mode emulators: counts the guest instructions that were executed and writes the number to the file
 * named by its argument `out`.
 *
 *   cc -O2 -fPIC -shared -fvisibility=hidden -DQEMU_PLUGIN_API=1 -o libinsn.so insn.c
 *   qemu-riscv64 -plugin file=./libinsn.so,out=count.txt program
 *
 * With the argument `mark`, the address of a function of the guest, the file begins with the count at each entry of that
 * function, one a line: what was executed between two of its calls is their difference.
 *
 * QEMU is under the GPL and a plugin runs inside its process; therefore this file, alone in the project, is under
 * GPL-2.0-or-later. It is built on the machine that uses it, loaded only by QEMU and linked into nothing else.
 *
 * QEMU_PLUGIN_API: 1 for QEMU 4.2 to 8.2, which add to a plain variable; 2 or more for QEMU 9.0 and later, which keep a
 * scoreboard with one number for each guest thread. The functions are declared here, because few distributions package
 * QEMU's header. Counts are exact for guests with one thread; with more, API 1 may lose additions.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned int, void *), int flags, void *);
extern void qemu_plugin_outs(const char *);

enum { ADD_U64 = 0 };    /* enum qemu_plugin_op */
enum { NO_REGISTERS = 0 }; /* enum qemu_plugin_cb_flags */

EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

static char out[4096];

#if QEMU_PLUGIN_API == 1

extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *, uint64_t);

static uint64_t executed;

static void prepare(void) {}

static void count_block(struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static uint64_t total(void) { return executed; }

#else

struct qemu_plugin_scoreboard;
typedef struct {
  struct qemu_plugin_scoreboard *score;
  size_t offset;
} qemu_plugin_u64;

extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
extern uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *, int op, qemu_plugin_u64, uint64_t);

static qemu_plugin_u64 executed;

static void prepare(void) { executed.score = qemu_plugin_scoreboard_new(sizeof(uint64_t)); }

static void count_block(struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, ADD_U64, executed, qemu_plugin_tb_n_insns(block));
}

static uint64_t total(void) { return qemu_plugin_u64_sum(executed); }

#endif

static uint64_t mark;
static FILE *counts;

static void marked(unsigned int cpu, void *unused) {
  (void)cpu, (void)unused;
  fprintf(counts, "%" PRIu64 "\n", total());
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  if (mark && qemu_plugin_tb_vaddr(block) == mark) qemu_plugin_register_vcpu_tb_exec_cb(block, marked, NO_REGISTERS, NULL);
  count_block(block);
}

static void finished(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  if (fprintf(counts, "%" PRIu64 "\n", total()) < 0 || fclose(counts)) qemu_plugin_outs("insn: cannot write the count\n");
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) snprintf(out, sizeof out, "%s", argv[i] + 4);
    if (!strncmp(argv[i], "mark=", 5)) mark = strtoull(argv[i] + 5, NULL, 0);
  }
  counts = *out ? fopen(out, "w") : NULL;
  if (!counts) return -1;
  prepare();
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
