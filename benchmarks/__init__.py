"""What waiting costs: this provider against what people use today, measured side by side in one run."""
