"""The judgement on drift: a guard acts on its figures, and findings explain them."""
