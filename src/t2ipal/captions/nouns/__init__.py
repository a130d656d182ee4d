"""The noun filter: which classes a caption says are there."""
