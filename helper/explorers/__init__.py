"""Move a control, see what changes: one file a topic, a view together with its controls.

Left out on purpose: anything that trains.
"""
