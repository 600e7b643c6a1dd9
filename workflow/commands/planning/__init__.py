"""What a run would take: the plan, and the forecast of its seconds from earlier runs or from a pilot."""
