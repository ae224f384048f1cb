"""What a core costs on a part, and how fast it runs there: synthesis, place and route with open tools."""
