"""Devices, files, memory, processes and signals."""
