"""The report of a campaign: `report.json`, and `report.html` made from it alone."""
