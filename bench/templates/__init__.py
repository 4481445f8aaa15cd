"""What `rankbench new` begins with: files that run as they are, their names filled in."""
