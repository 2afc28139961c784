"""Scores of answers by a judge: another model that compares two answers, in both orders."""
