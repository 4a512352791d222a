"""Helpers that know nothing of FDAE: command lines, files, memory, messages of the Hub."""
