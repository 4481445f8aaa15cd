"""Finished runs taken further: a saved adapter restored (`restore`), written as others load it (`write`, with
what they would say of it in `readers` and a `card`), and scored on more tasks (`scoring`)."""
