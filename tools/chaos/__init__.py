"""Break t2ipal on purpose: kills, refused file operations, pairs of processes, damaged inputs."""
