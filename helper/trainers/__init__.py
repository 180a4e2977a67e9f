"""All that stands around the library's trainers: checks before a run, alarms and charts during it, checkpoints, speed.

Left out on purpose: the trainers themselves; each lesson shows TRL's in full view.
"""
