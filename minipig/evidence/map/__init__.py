"""The map: when pairs pay, and what makes them pay."""
