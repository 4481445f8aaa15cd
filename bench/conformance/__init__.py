"""What every adapter, task and metric must do: for `rankbench check`, and for our own tests."""
