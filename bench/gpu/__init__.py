"""What is tried on a machine with a GPU that is there for some minutes: is it right, what does it cost, and
then as many runs as there is time for."""
