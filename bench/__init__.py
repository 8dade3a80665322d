"""The benchmark: what one machine carries, beside what the bare work costs and beside what others need for it.

    python -m bench [--quick] [work] [floor] [peers] [growth] [precedence] [profile]

Absolute figures move from day to day; every figure that is claimed is a ratio of two that were measured in turn,
in one run, on one machine. Nothing here asserts a time.
"""
