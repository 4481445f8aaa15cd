"""What papers published, in figures and in words, and what our records say of it."""
