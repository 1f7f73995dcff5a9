"""Simulation of the memory of a training step on tensors that have a size and no data.

The simulation runs the operations of a step as the libraries write them and lets Python's
reference counting free what PyTorch would free. It needs no GPU and no torch. A guided tour, in the
order in which to read:

1. `allocator.py` counts live bytes by category (weights, gradients, activations, …) and their peak.
2. `tensors.py`, `autograd.py` and `recompute.py` are PyTorch's autograd: what each operation saves
   for its backward pass, the order of the backward pass, and activation checkpointing.
3. `ops.py` lists the operations; `attention.py`, `adapters.py` and `decoder.py` build the forward
   pass of a Transformers decoder from them, with the operations of PEFT's adapters.
4. `parameters.py` allocates the weights of a job. Its `MemoryConfig` is the input of everything.
5. `losses.py` selects the head of a method: `log_probs.py` and `fused_log_probs.py` for next
   tokens, `distillation_loss.py` for a teacher's distributions; `l2_sp.py` adds the penalty.
6. `sharding.py` and `zero3_gather.py` are DDP, ZeRO 1 to 3 and FSDP2; `optimizers.py` has the bytes
   of optimizer states.
7. `method_profile.py` says what a method adds: `auxiliary_models.py` simulates a reference model or
   teacher, `rollout.py` the sampling of answers.
8. `simulate_step.py` runs a step: `simulate(config)` returns the peak of each phase by category.

Every module names the source file of the library that it mirrors, with its version. When that
library is upgraded, compare the two and run `benchmarks/memory` on a GPU.
"""
