"""What every role needs to be operated: settings, logs, metrics, health."""
