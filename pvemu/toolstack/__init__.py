"""The tools: loading kernels, building domains, their life cycle and the `pvemu` command."""
