"""pitboss: a process supervisor that treats the end of a worker's life as carefully as its start."""

__version__ = "0.1.0"
