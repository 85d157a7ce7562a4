"""What decides: durable orchestrations. No I/O, no clock, no randomness; only yields and decisions."""
