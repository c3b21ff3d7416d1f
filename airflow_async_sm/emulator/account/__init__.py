"""The control plane: models, configurations, endpoints and their instances."""
