"""`sspo demo`: a model that adds badly, the whole service, and what it made of the model."""
