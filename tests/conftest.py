"""What holds for every test."""

from hypothesis import settings

# Being slow on a busy machine is no wrong answer; pytest's own limit ends what hangs.
settings.register_profile("vlab", deadline=None)
settings.load_profile("vlab")
