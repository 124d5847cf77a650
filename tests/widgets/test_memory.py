"""The reading is of this machine, in words."""

import re

import psutil

from harmonia_lab.widgets.memory import memory_now


def test_the_reading_names_what_is_used_and_what_there_is():
    used, total = map(float, re.match(r"memory ([\d.]+) GB of ([\d.]+) GB", memory_now()).groups())
    assert abs(total - psutil.virtual_memory().total / 1e9) < 0.1
    assert used < total
