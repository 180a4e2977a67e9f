"""What this computer is and can hold: devices, threads, memory, sizes, costs, folders, the Hub.

Left out on purpose: models and data; nothing here knows one.
"""
