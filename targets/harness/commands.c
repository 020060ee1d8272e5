/* Which command the arguments are; see commands.h. */
#include <string.h>

#include "commands.h"

static struct limits parse_limits(char **words) {
  struct limits limits = {
      .warmup_min_count = parse_number("WARMUP_MIN_COUNT", words[0]),
      .warmup_min_ns = parse_number("WARMUP_MIN_NS", words[1]),
      .warmup_max_ns = parse_number("WARMUP_MAX_NS", words[2]),
      .min_count = parse_number("MIN_COUNT", words[3]),
      .min_ns = parse_number("MIN_NS", words[4]),
      .max_ns = parse_number("MAX_NS", words[5]),
      .max_count = parse_number("MAX_COUNT", words[6]),
  };
  if (limits.max_count < limits.min_count || limits.max_count == 0) refuse("MAX_COUNT is below MIN_COUNT or 0");
  return limits;
}

uint64_t choose_stride(struct limits limits, uint64_t median_ns) {
  uint64_t expected = limits.min_ns / (median_ns + 1) + 1;
  return expected * 4 / 3 / limits.max_count + 1;
}

void carry_out(int count, char **words) {
  const char *command = count > 1 ? words[1] : "";
  if (!strcmp(command, "infer") && count == 4) {
    infer(words[2], words[3]);
  } else if (!strcmp(command, "time") && count == 11) {
    time_inferences(words[2], words[3], parse_limits(words + 4));
  } else if (!strcmp(command, "memory") && count == 3) {
    measure_memory(words[2]);
  } else if (!strcmp(command, "count") && count == 4) {
    count_instructions(words[2], parse_number("N", words[3]));
  } else if (!strcmp(command, "profile") && count == 6) {
    profile(words[2], words[3], parse_number("N", words[4]), words[5]);
  } else {
    refuse("expected one of: infer INPUTS OUTPUTS | time INPUTS SAMPLES WARMUP_MIN_COUNT WARMUP_MIN_NS WARMUP_MAX_NS MIN_COUNT "
           "MIN_NS MAX_NS MAX_COUNT | memory INPUTS | count INPUTS N | profile INPUTS READINGS N COUNTER");
  }
}
