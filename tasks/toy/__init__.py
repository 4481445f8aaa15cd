"""Generated data: no download, seconds to train."""
