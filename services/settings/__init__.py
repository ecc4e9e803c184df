"""The settings of our processes: one typed, documented field for each `SSPO_*` variable.

Invariants: only this package reads these variables; a variable is its field's name in capitals, after a prefix; an
error names the variable and never shows its value. `docs/settings.md` is written from here (`make docs`).
"""
