"""What is drawn: pictures with alternative text, and tables. Nothing here knows a model.

Left out on purpose: anything that moves (`helper.explorers`).
"""
