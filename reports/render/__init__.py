"""Blocks and figures as Markdown, SVG and the page: what is said and drawn is decided elsewhere."""
