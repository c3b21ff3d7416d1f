"""What ``--state FOLDER`` keeps from one start of the emulator to the next."""
