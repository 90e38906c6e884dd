"""The silicon: one physical CPU on one Unicorn engine, and nothing that knows of Xen.

This is the only package that imports unicorn and capstone. `Processor` is what the rest of the
project sees; docs/engine.md tells what was found out about the engine, and how each module uses it.
"""
