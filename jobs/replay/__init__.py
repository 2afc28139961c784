"""`thalweg replay`: stream scored prompts one at a time, reveal only the chosen model's score, and watch routers learn."""
