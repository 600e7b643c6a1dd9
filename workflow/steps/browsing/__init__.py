"""What one looks at of a run: members of clusters, galleries, previews, and what the map and the page show."""
