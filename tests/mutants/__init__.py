"""Do the tests beside the code notice when it is changed? `make mutants` changes one point at a time and looks.

A seeded sample of points is drawn from the code that carries the promise (`points.PACKAGES`); each is changed in a
copy of the tree, and the tests beside it are run there. What no test notices is a survivor. Survivors that change
nothing a user or a promise depends on are listed with the reason in `accepted.toml`. The command fails when fewer than
nine of ten points are noticed or accepted.

mutmut 3 and cosmic-ray were looked at first. Neither removes a statement or a call, and that is how the holes looked
which this command was made for; cosmic-ray knows one test command for all modules and changes files in place, one after
the other; mutmut runs all mutants in one imported process, whose tests would share one Redis. Neither draws a seeded
sample over several packages.
"""
