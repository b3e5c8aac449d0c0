"""How XLA compiles the programs of the tests, nearly all of which are small and run a few times."""

from jaxlib.version import __version_info__

# LLVM's optimisation costs more than it gives.
FAST_COMPILATION = "--xla_backend_optimization_level=0"
if __version_info__ < (0, 11):
    # Without the fusion emitters a program compiles in less than half the time; newer ones have no
    # such choice, and refuse a flag that they do not know.
    FAST_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
