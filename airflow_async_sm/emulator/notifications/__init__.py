"""Messages to SNS topics about requests."""
