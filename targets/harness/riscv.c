/* Start, traps, timer and semihosting of RISC-V in machine mode (The RISC-V Instruction Set Manual, volume II). */
#include <string.h>

#include "board.h"

#define WITH_CSRS ".option push\n .option arch, +zicsr\n"
#define END_CSRS ".option pop\n"

enum { PMP_READ_EXECUTE_TOP_LOCKED = 0x8D };

/* Where execution begins. Until the program's own handler is set, a trap goes on behind the instruction that caused it: a
 * hart may lack memory protection or a counter. tp is where the C library keeps its thread's variables, errno above all. */
__attribute__((naked, section(".start"), used)) void start(void) {
  __asm__ volatile(
      ".option push\n .option norelax\n la gp, __global_pointer$\n .option pop\n"
      "la sp, stack_top\n la tp, thread_start\n"
#ifdef __riscv_flen
      WITH_CSRS "li t0, 0x2000\n csrs mstatus, t0\n csrwi fcsr, 0\n" END_CSRS
#endif
      "j prepare\n");
}

/* On a fresh stack, for the old one may be what is wrong. */
static __attribute__((naked, aligned(4), used)) void trap(void) {
  __asm__ volatile(WITH_CSRS
                   "mv a0, sp\n la sp, stack_top\n csrr a1, mepc\n csrr a2, mcause\n" END_CSRS "j report_trap\n");
}

/* Everything below the memory is read-only: flash, and what a stack that overflows would run into. */
static void protect_below_memory(void) {
  uintptr_t limit = (uintptr_t)stack_bottom >> 2, handler;
  __asm__ volatile(WITH_CSRS
                   "la %0, 1f\n csrw mtvec, %0\n csrw pmpaddr0, %1\n csrw pmpcfg0, %2\n .balign 4\n1:\n"
                   "la %0, trap\n csrw mtvec, %0\n" END_CSRS
                   : "=&r"(handler)
                   : "r"(limit), "r"(PMP_READ_EXECUTE_TOP_LOCKED)
                   : "memory");
}

static __attribute__((used)) void prepare(void) {
  memcpy(data_start, data_load, (size_t)(data_end - data_start));
  memset(zero_start, 0, (size_t)(zero_end - zero_start));
  protect_below_memory();
  run_program();
}

uintptr_t semihost(uintptr_t operation, void *argument) {
  register uintptr_t a0 __asm__("a0") = operation;
  register void *a1 __asm__("a1") = argument;
  __asm__ volatile( /* these three instructions, uncompressed and on one page, are the request */
      ".option push\n .option norvc\n .balign 16\n slli x0, x0, 0x1f\n ebreak\n srai x0, x0, 7\n .option pop"
      : "+r"(a0)
      : "r"(a1)
      : "memory");
  return a0;
}

void start_timer(void) {}

uint64_t read_timer(void) {
  const volatile uint32_t *mtime = (const volatile uint32_t *)TIMER_ADDRESS;
  uint32_t high, low, again;
  do {
    high = mtime[1];
    low = mtime[0];
    again = mtime[1];
  } while (high != again);
  return (uint64_t)high << 32 | low;
}
