"""What training costs: estimated before a run (`estimate`, `speed`), and measured side by side."""
