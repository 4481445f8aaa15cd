"""Two folders of results side by side: what both measured, and whether the second is worse."""
