"""Everything that no framework touches, written once and used by both trees."""
