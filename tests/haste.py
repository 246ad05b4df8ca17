"""XLA options for tests of what a program computes, not how fast: compiling takes half to a quarter of the time."""

import jax

EMITTERS = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}  # later there is no other
HASTE = {"xla_backend_optimization_level": 0, **EMITTERS}
