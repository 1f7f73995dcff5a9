"""CUDA device simulated on a build of torch without CUDA, and training steps walked on it.

PyTorch's `FakeTensorMode` decides the device of every tensor, and refuses operations on tensors of
different devices as a GPU would. Every fake tensor also has its values, computed on the CPU, so a
job trains as usual: lengths, samples and branches are those of a real run. The process in which a
device is simulated serves nothing else.
"""
