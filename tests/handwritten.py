"""What C models that tests write by hand have in common."""

ONE_CALL = """\
int aot_profile(void *const *inputs, void **outputs, void (*mark)(uint32_t call)) {
  mark(0);
  mark(0);
  int failed = aot_run(inputs, outputs);
  mark(1);
  return failed;
}
"""
"""The profile of a model that is one kernel call; follows its `aot_run`."""
