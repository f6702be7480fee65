"""The demo data: seeded grammars and what makes rows of them."""
