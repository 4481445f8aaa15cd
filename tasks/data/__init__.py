"""Where data comes from, pinned: packages, the hub or a mirror of it, and how it is split."""
