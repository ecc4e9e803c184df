"""Generated messages of the trajectory path (`make proto`); the source is trajectory.proto beside this file."""
