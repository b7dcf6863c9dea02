"""The lab: guide rules, walks and networks, ranked at equal budget."""
