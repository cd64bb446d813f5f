"""Schedules, samplers, guidance and noise: pure functions over tensors that know no model and no device.

Importing this package imports nothing heavy; `names` is what node declarations need.
"""
