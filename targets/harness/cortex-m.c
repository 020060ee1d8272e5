/* Start, traps, timer and semihosting of Cortex-M (Armv7-M Architecture Reference Manual, DDI 0403). */
#include <string.h>

#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYST_CSR REGISTER(0xE000E010)
#define SYST_RVR REGISTER(0xE000E014)
#define SYST_CVR REGISTER(0xE000E018)
#define ICSR REGISTER(0xE000ED04)
#define CFSR REGISTER(0xE000ED28)
#define CPACR REGISTER(0xE000ED88)
#define MPU_TYPE REGISTER(0xE000ED90)
#define MPU_CTRL REGISTER(0xE000ED94)
#define MPU_RNR REGISTER(0xE000ED98)
#define MPU_RBAR REGISTER(0xE000ED9C)
#define MPU_RASR REGISTER(0xE000EDA0)

enum { SYSTICK_PERIOD = 1 << 24, PENDSTSET = 1 << 26, FPU_FULL_ACCESS = 0xF << 20 };
enum { MPU_READ_ONLY = 6 << 24, MPU_CACHED = 1 << 17, MPU_ON = 1, MPU_DEFAULT_MAP = 4, SMALLEST_REGION = 32 };

static volatile uint32_t periods;

uintptr_t semihost(uintptr_t operation, void *argument) {
  register uintptr_t r0 __asm__("r0") = operation;
  register void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void start_timer(void) {
  periods = 0;
  SYST_RVR = SYSTICK_PERIOD - 1;
  SYST_CVR = 0;
  SYST_CSR = 7; /* processor clock, interrupt, on */
  while (SYST_CVR == 0) {} /* the first period begins with the reload */
}

static void count_period(void) { periods++; }

uint64_t read_timer(void) {
  uint32_t whole, left, pending;
  do {
    whole = periods;
    left = SYST_CVR;
    pending = ICSR & PENDSTSET;
  } while (whole != periods);
  if (pending) { /* a period ended whose interrupt has not come yet */
    left = SYST_CVR;
    whole++;
  }
  return (uint64_t)whole * SYSTICK_PERIOD + (SYSTICK_PERIOD - 1 - left);
}

static __attribute__((used)) void trapped(uintptr_t sp) {
  const uint32_t *frame = (const uint32_t *)sp; /* r0-r3, r12, lr, pc, xpsr */
  report_trap(sp, sp >= (uintptr_t)stack_bottom && sp < (uintptr_t)stack_top ? frame[6] : 0, CFSR);
}

/* On a fresh stack, for the old one may be what is wrong. */
static __attribute__((naked)) void trap(void) {
  __asm__ volatile("mov r0, sp\n ldr r1, =stack_top\n mov sp, r1\n b trapped\n");
}

/* The largest region that can end where the memory begins is read-only: what a stack that overflows would run into, and often
 * the flash. Cores without memory protection have no regions. */
static void protect_below_memory(void) {
  uint32_t limit = (uint32_t)stack_bottom, size = limit & -limit;
  if (!(MPU_TYPE >> 8 & 0xFF) || size < SMALLEST_REGION) return;
  MPU_RNR = 0;
  MPU_RBAR = limit - size;
  MPU_RASR = MPU_READ_ONLY | MPU_CACHED | (uint32_t)(__builtin_ctz(size) - 1) << 1 | 1;
  MPU_CTRL = MPU_ON | MPU_DEFAULT_MAP;
  __asm__ volatile("dsb\n isb");
}

void start(void) {
#ifdef __ARM_FP
  CPACR |= FPU_FULL_ACCESS;
  __asm__ volatile("dsb\n isb");
#endif
  memcpy(data_start, data_load, (size_t)(data_end - data_start));
  memset(zero_start, 0, (size_t)(zero_end - zero_start));
  protect_below_memory();
  run_program();
}

/* Stack, reset, NMI, faults, four reserved, SVCall, debug, one reserved, PendSV, SysTick. */
__attribute__((section(".start"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))stack_top, start, trap, trap, trap, trap, trap, 0, 0, 0, 0, trap, trap, 0, trap, count_period};

void __aeabi_unwind_cpp_pr0(void) {} /* named by the kernels' unwind tables, which nobody reads */
