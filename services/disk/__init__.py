"""What lies on disk and where: the shape of the data folder, durable files, the folder's version."""
