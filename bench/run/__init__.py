"""One run, from what its suite says (`job`) to its record (`runner`); it knows of no other run."""
