"""What our processes are told from outside: one typed, documented field for each `SSPO_*` variable.

Invariants: nobody else reads one of these variables; a field's name, in capitals behind its prefix, is the variable's;
an error names the variable and never shows what it holds. `docs/settings.md` is written from here (`make docs`).
"""
