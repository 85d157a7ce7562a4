"""git: the run's bare repository, the remote, publishing, pull requests. Importing this is cheap."""
