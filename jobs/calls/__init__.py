"""Calls that jobs make to models: booked before they are made, with a deadline and at a bounded rate."""
