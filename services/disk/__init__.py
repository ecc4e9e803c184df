"""The disk: the shape of the data folder, durable files, the folder's version."""
