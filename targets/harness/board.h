/* What the program of firmware.c asks of a family of microcontrollers: cortex-m.c and riscv.c answer.
 *
 * Set by whoever links: TIMER_HZ, and the symbols flash_origin, ram_origin and stack_bytes of the linker script.
 */
#pragma once
#include <stdint.h>

/* A request to the debugger or emulator ("Semihosting for AArch32 and AArch64", ARM IHI 0103; RISC-V uses the same numbers). */
uintptr_t semihost(uintptr_t operation, void *argument);

/* A counter of TIMER_HZ, from the call of start_timer on. */
void start_timer(void);
uint64_t read_timer(void);

/* Where execution begins. */
void start(void);

/* The program; called with stack, data and zeroed memory in place. Never returns. */
_Noreturn void run_program(void);

/* A trap that nobody asked for. `sp` is the stack pointer it happened at, `place` and `cause` are the family's own numbers. */
_Noreturn void report_trap(uintptr_t sp, uintptr_t place, uintptr_t cause);

extern uint8_t stack_bottom[], stack_top[];         /* the stack grows down from its top */
extern uint8_t data_start[], data_end[], data_load[]; /* initialised memory and its copy in flash */
extern uint8_t zero_start[], zero_end[];            /* memory that begins as zero */
extern uint8_t ram_end[];                           /* end of all memory that is in use */
