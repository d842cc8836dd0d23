"""`python -m tests.charts` writes the golden files anew; look at the difference before it is committed."""

from __future__ import annotations

import helm_python

from tests.charts.rendering import SETS, golden_file, render, values

for name in SETS:
    golden_file(name).write_text(render(helm_python, values(name)), encoding="utf-8")
